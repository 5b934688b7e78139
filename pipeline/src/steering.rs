//! Characters of strangers' text that steer what shows it: a terminal, a log, the direction of writing.

/// Whether a character must not reach a terminal or a log line as it is: controls (line breaks too), U+2028 and U+2029,
/// which some readers take for line ends, and marks that turn the direction of writing so that a text reads as
/// another ("Trojan Source", CVE-2021-42574).
#[must_use]
pub fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_any_script_are_shown_and_what_steers_is_not() {
        assert!(!"Ünïcode, العربية, עברית, 日本語 👍🏽 e\u{301}\u{200d}".chars().any(is_steering));
        let steering = "\0\n\r\t\u{1b}\u{7f}\u{85}\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}\u{feff}";
        assert!(steering.chars().all(is_steering));
    }
}
