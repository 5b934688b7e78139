//! Each layer works alone, and says when it is not there. A kernel without one is made from outside: a filter that answers
//! its system call as an old kernel would.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use pipeline::media::cage::{Layer, Sandbox};
use pipeline::media::protocol::{Limits, Request, Task};
use pipeline::media::{Media, MediaConfig, MediaError};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::Programs;
use crate::hostile::{BARE_PROBE, BARER_PROBE, LIMIT, WITHOUT};
use crate::probes;
use crate::refusals::{expected, file_name, heard, verdict};
use crate::target::Stage;

/// Makes this process one whose kernel lacks a layer.
pub(crate) fn take_away(layer: &str) {
    // Limits may still be asked for, but not set: the third argument.
    let sets = || {
        let width = SeccompCmpArgLen::Qword;
        let condition = SeccompCondition::new(2, width, SeccompCmpOp::Ne, 0).expect("a condition");
        vec![SeccompRule::new(vec![condition]).expect("a rule")]
    };
    let (call, when, errno) = match layer {
        "process" => (libc::SYS_close_range, Vec::new(), libc::ENOSYS),
        "limits" => (libc::SYS_prlimit64, sets(), libc::EPERM),
        "namespaces" => (libc::SYS_unshare, Vec::new(), libc::EPERM),
        "landlock" => (libc::SYS_landlock_create_ruleset, Vec::new(), libc::ENOSYS),
        "seccomp" => (libc::SYS_seccomp, Vec::new(), libc::ENOSYS),
        other => panic!("no layer {other}"),
    };
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let missing = SeccompAction::Errno(errno.cast_unsigned());
    let rules = BTreeMap::from([(call, when)]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, architecture);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    apply_filter(&program).expect("this kernel has it");
}

pub(crate) fn without_seccomp_the_others_hold() {
    let programs = Programs::new();
    let stage = Stage::new(programs.path());
    let mut wrong = Vec::new();
    let others = probes::all().filter_map(|probe| Some((probe, probe.else_refused_by?)));
    for (probe, refusal) in others {
        let program = programs.named(&format!("{BARE_PROBE}{}", file_name(probe.name)));
        let verdict = verdict(&heard(&program));
        if verdict != expected(refusal) {
            wrong.push(format!("{}: {verdict}", probe.name));
        }
    }
    assert!(wrong.is_empty(), "without seccomp:\n{}", wrong.join("\n"));
    assert!(!stage.was_reached() && stage.is_untouched(), "something left the cage");
}

/// Not even the loopback is there, and what listens on it is somebody else's.
pub(crate) fn namespaces_hide_the_network() {
    let programs = Programs::new();
    let stage = Stage::new(programs.path());
    let probe = probes::find("connect to the database port");
    let program = programs.named(&format!("{BARER_PROBE}{}", file_name(probe.name)));
    let unreachable = std::io::Error::from_raw_os_error(libc::ENETUNREACH);
    assert_eq!(verdict(&heard(&program)), format!("refused: {unreachable}"));
    assert!(!stage.was_reached());
}

pub(crate) fn a_missing_layer_is_told() {
    let programs = Programs::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let input = b"#EXTM3U".to_vec();
        for layer in Layer::ALL {
            let program = programs.named(&format!("{WITHOUT}{layer}"));
            let media = |sandbox| {
                let (program, limits) = (program.clone(), Limits::default());
                Media::new(MediaConfig { program, limits, sandbox })
            };
            let level = media(Sandbox::BestEffort).probe().await;
            let level = level.expect("best effort takes what there is");
            for other in Layer::ALL {
                assert_eq!(level.holds(other), other != layer, "{other} without {layer}: {level}");
            }

            let refusal =
                media(Sandbox::Required).probe().await.expect_err("all of it is asked for");
            let MediaError::Uncaged(text) = refusal else { panic!("{refusal:?}") };
            assert!(text.contains(layer.as_str()) && text.contains(layer.remedy()), "{text}");

            // And each child by itself, should the kernel have changed since: the file is not read.
            let limits = Limits::default();
            let request = Request { limits, task: Task::Transcode };
            let start = async |sandbox| {
                media(sandbox)
                    .start(request.clone(), input.clone(), std::time::Duration::from_secs(30))
                    .await
            };
            let end = start(Sandbox::Required).await.expect("a start").next().await;
            assert!(matches!(end, Err(MediaError::Uncaged(_))), "{layer}: {end:?}");
            let end = start(Sandbox::BestEffort).await.expect("a start").next().await;
            assert!(matches!(end, Err(MediaError::Failed { .. })), "{layer}: {end:?}");
            let taken = media(Sandbox::Container).probe().await.is_ok();
            assert_eq!(taken, layer == Layer::Namespaces, "container without {layer}");
        }
    });
}

/// The hostile child's side of the limits.
pub(crate) fn use_up(what: &str) {
    match what {
        "cpu" => loop {
            std::hint::spin_loop();
        },
        // Its stdout is a file here.
        "file size" => {
            let grown = rustix::io::write(std::io::stdout(), &[0; 4096]);
            panic!("the file grew: {grown:?}");
        }
        other => panic!("no limit {other}"),
    }
}

pub(crate) fn limits_end_it() {
    let programs = Programs::new();
    let _stage = Stage::new(programs.path());
    for (limit, signal) in [("cpu", libc::SIGXCPU), ("file size", libc::SIGXFSZ)] {
        let file = File::create(programs.path().join("stdout")).expect("a file");
        let stdout = if limit == "cpu" { Stdio::null() } else { file.into() };
        let status = Command::new(programs.named(&format!("{LIMIT}{limit}")))
            .args(["media-child", "--sandbox", "required", "--cpu-seconds", "1"])
            .stdin(Stdio::null())
            .stdout(stdout)
            .status()
            .expect("it runs");
        assert_eq!(status.signal(), Some(signal), "{limit}: {status}");
    }
}
