//! The cage of the media child, tried from inside: a hostile child enters the real one and then does what an attacker
//! would, each probe in a process of its own, listened to by the real parent. Not under the usual test harness, because
//! this binary is also the program that is started as the media child.
#![expect(clippy::print_stdout, reason = "the table of probes is what the test shows")]

mod control;
mod hostile;
mod layers;
mod lies;
mod probes;
mod refusals;
mod target;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use tempfile::TempDir;

const TESTS: [(&str, fn()); 7] = [
    ("every_probe_from_inside_the_cage_is_refused", refusals::every_probe_is_refused),
    ("outside_the_cage_the_same_probes_work", control::the_same_probes_work_outside),
    ("every_lie_and_every_flood_is_ended", refusals::every_lie_is_ended),
    ("without_seccomp_the_other_layers_still_hold", layers::without_seccomp_the_others_hold),
    ("without_landlock_either_there_is_no_network", layers::namespaces_hide_the_network),
    ("a_missing_layer_is_told_and_required_refuses", layers::a_missing_layer_is_told),
    ("limits_of_the_kernel_end_what_the_parent_does_not", layers::limits_end_it),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("media-child") => return hostile::run(&arguments),
        Some("control") => return control::run(&arguments[1]),
        _ => {}
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, test) in TESTS {
        if wanted.is_none_or(|part| name.contains(part.as_str())) {
            let begun = Instant::now();
            // A failed assertion unwinds out of main: cargo sees the status, and the text says which.
            test();
            println!("test {name} ... ok ({:.1} s)", begun.elapsed().as_secs_f64());
        }
    }
    ExitCode::SUCCESS
}

/// This binary under names that say what it is to do: its environment is empty, and what it reads is the parent's.
struct Programs {
    directory: TempDir,
}

impl Programs {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn named(&self, name: &str) -> PathBuf {
        let link = self.path().join(name);
        let program = std::env::current_exe().expect("a path");
        std::os::unix::fs::symlink(program, &link).expect("a link");
        link
    }
}
