//! What the doctor found, one line for each check as it ends, or one document at the end.

use std::io::{self, Write, stdout};

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    /// Works, and could be better.
    Warn,
    /// Something will not work.
    Fail,
    /// Not looked at, because of another failure.
    Skipped,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
            Verdict::Skipped => "skip",
        }
    }
}

/// The outcome of one check.
#[derive(Debug)]
pub(super) struct Finding {
    check: &'static str,
    verdict: Verdict,
    detail: String,
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    pub(super) fn warn(check: &'static str, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, ..Self::ok(check, detail) }
    }

    pub(super) fn fail(check: &'static str, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::ok(check, detail) }
    }

    pub(super) fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::ok(check, why) }
    }

    /// How to mend it, where the detail does not say so itself.
    pub(super) fn mend(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn text(&self) -> String {
        let finding =
            format!("{:<4}  {:<14}  {}\n", self.verdict.as_str(), self.check, self.detail);
        let remedy = self.remedy.as_ref().map(|remedy| format!("{:<22}-> {remedy}\n", ""));
        finding + &remedy.unwrap_or_default()
    }

    fn document(&self) -> Value {
        json!({
            "check": self.check,
            "verdict": self.verdict.as_str().to_lowercase(),
            "detail": self.detail,
            "remedy": self.remedy,
        })
    }
}

pub(super) struct Report {
    json: bool,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, findings: Vec::new() }
    }

    /// Takes a finding; on a terminal it is seen at once.
    pub(super) fn add(&mut self, finding: Finding) -> io::Result<()> {
        if !self.json {
            write!(stdout(), "{}", finding.text())?;
        }
        self.findings.push(finding);
        Ok(())
    }

    /// Whether nothing failed.
    pub(super) fn end(self) -> io::Result<bool> {
        let healthy = self.healthy();
        if self.json {
            let checks: Vec<Value> = self.findings.iter().map(Finding::document).collect();
            writeln!(stdout(), "{:#}", json!({ "healthy": healthy, "checks": checks }))?;
        }
        Ok(healthy)
    }

    fn healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_stands_below_its_finding() {
        let finding = Finding::fail("redis", "Redis is away").mend("start it");
        assert_eq!(
            finding.text(),
            "FAIL  redis           Redis is away\n                      -> start it\n"
        );
    }

    #[test]
    fn warnings_and_skipped_checks_are_no_failure() {
        let mut report = Report::new(true);
        report.add(Finding::warn("redis", "forgets")).expect("nothing is printed yet");
        report.add(Finding::skipped("round trip", "no Postgres")).expect("nothing is printed yet");
        assert!(report.healthy());
        report.add(Finding::fail("minio", "away")).expect("nothing is printed yet");
        assert!(!report.healthy());
    }
}
