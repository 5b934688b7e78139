//! The house rules that a compiler cannot keep: who may import whom, which foreign crate belongs to which door, and how
//! long a file may be. Reads the sources; what is below `#[cfg(test)]` is not looked at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const HARD_LIMIT: usize = 400;
const DOMAIN: &[&str] = &["video", "stage", "job", "event", "retry", "clock", "metrics"];
const DOORS: &[&str] = &["queue", "storage", "db", "media", "speech"];
const STAGES: &[&str] = &["duplicate_detection", "transcode", "speech_to_text", "embeddings"];

/// A room, and what it may use beside the domain and itself.
const ROOMS: &[(&str, &[&str])] = &[
    ("intake", &["db"]),
    ("dispatch", &["db", "queue"]),
    ("reconcile", &["db", "storage"]),
    ("gc", &["db", "storage"]),
    ("worker", &["stages", "queue", "db", "storage"]),
    ("stages", &["storage", "media", "speech"]),
];

/// Each foreign crate, and the rooms of the pipeline that see it. Of `reqwest` two doors have need: MinIO's figures are
/// behind a call that is no S3, which its crate cannot make.
const FOREIGN: &[(&str, &[&str])] = &[
    ("ffmpeg_next", &["media"]),
    ("sqlx", &["db"]),
    ("redis", &["queue"]),
    ("deadpool_redis", &["queue"]),
    ("minio", &["storage"]),
    ("rusty_s3", &["storage"]),
    ("reqwest", &["speech", "storage"]),
    ("tract_onnx", &["speech"]),
    ("backoff", &["retry"]),
];

/// What the domain is made of.
const DOMAIN_CRATES: &[&str] =
    &["std", "core", "serde", "serde_json", "uuid", "thiserror", "time", "crate", "self", "super"];

/// A part of the daemon, and the parts of the daemon it must not know.
const DAEMON: &[(&str, &[&str])] = &[
    ("app", &["commands", "cli", "supervisor"]),
    ("http", &["app", "commands", "cli", "config", "supervisor", "lifecycle"]),
    ("config", &["app", "commands", "cli", "http", "supervisor"]),
    ("lifecycle", &["app", "commands", "cli", "config", "http", "supervisor"]),
    ("supervisor", &["app", "commands", "cli", "config", "http", "lifecycle"]),
    ("commands", &["cli", "http"]),
];

/// A source file without its tests and comments.
struct Source {
    path: PathBuf,
    /// The first folder or file below `src`: `db`, `worker`, `video`.
    room: String,
    code: String,
    lines: usize,
    documented: bool,
}

#[test]
fn rooms_of_the_pipeline_use_only_what_they_may() {
    let mut breaches = Vec::new();
    for source in sources("pipeline/src") {
        let allowed: Vec<&str> = match ROOMS.iter().find(|(room, _)| *room == source.room) {
            Some((_, allowed)) => allowed.to_vec(),
            None => Vec::new(),
        };
        for used in names_after(&source.code, "crate::") {
            let is_room =
                DOORS.contains(&used.as_str()) || ROOMS.iter().any(|(room, _)| *room == used);
            let fine = source.room == "lib" || used == source.room || !is_room;
            if !fine && !allowed.contains(&used.as_str()) {
                breaches.push(format!("{} uses {used}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn a_stage_does_not_know_another_stage() {
    let mut breaches = Vec::new();
    for source in sources("pipeline/src/stages") {
        for used in names_after(&source.code, "super::") {
            let other = STAGES.contains(&used.as_str()) && used != source.room;
            if other && STAGES.contains(&source.room.as_str()) {
                breaches.push(format!("{} uses {used}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn a_foreign_crate_is_seen_by_one_door_only() {
    let mut breaches = Vec::new();
    for source in sources("pipeline/src") {
        for (foreign, doors) in FOREIGN {
            if !doors.contains(&source.room.as_str()) && mentions(&source.code, foreign) {
                breaches.push(format!("{} uses {foreign}", source.path.display()));
            }
        }
    }
    for source in sources("src") {
        // sqlx, minio and the others are no dependencies of the daemon; reqwest is, for its commands.
        if source.room != "commands" && mentions(&source.code, "reqwest") {
            breaches.push(format!("{} uses reqwest", source.path.display()));
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_domain_is_pure() {
    let mut breaches = Vec::new();
    for source in sources("pipeline/src").iter().filter(|s| DOMAIN.contains(&s.room.as_str())) {
        for line in source.code.lines().map(str::trim_start) {
            let line = line.strip_prefix("pub ").unwrap_or(line).trim_start_matches("(crate) ");
            let Some(used) = line.strip_prefix("use ") else { continue };
            let root = used.split([':', ';', ' ']).next().unwrap_or_default();
            let fine = DOMAIN_CRATES.contains(&root)
                || source.room == "retry" && root == "backoff"
                // A child module of its own.
                || source.code.contains(&format!("mod {root};"));
            if !fine {
                breaches.push(format!("{} uses {root}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn parts_of_the_daemon_do_not_reach_upwards() {
    let mut breaches = Vec::new();
    for source in sources("src") {
        let forbidden = DAEMON.iter().find(|(part, _)| *part == source.room).map(|(_, f)| *f);
        for used in names_after(&source.code, "crate::") {
            if forbidden.is_some_and(|forbidden| forbidden.contains(&used.as_str())) {
                breaches.push(format!("{} uses {used}", source.path.display()));
            }
        }
        for used in names_after(&source.code, "pipeline::") {
            let fine = match source.room.as_str() {
                "http" => {
                    ["intake", "db", "storage"].contains(&used.as_str())
                        || DOMAIN.contains(&used.as_str())
                }
                _ => true,
            };
            if !fine {
                breaches.push(format!("{} uses pipeline::{used}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_file_says_what_it_owns_and_stays_short() {
    let mut breaches = Vec::new();
    for root in ["src", "pipeline/src", "tests"] {
        for source in sources(root) {
            let path = source.path.display();
            if source.lines > HARD_LIMIT {
                breaches.push(format!("{path} has {} lines, over {HARD_LIMIT}", source.lines));
            }
            if !source.documented {
                breaches.push(format!("{path} does not open with //!"));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_reader_of_this_test_understands_imports() {
    let code = "use crate::db::Db;\nuse crate::{\n    queue::{Queue, QueueError},\n    video,\n};\nlet x = crate::storage::f();";
    let names: Vec<String> = names_after(code, "crate::").into_iter().collect();
    assert_eq!(names, ["db", "queue", "storage", "video"]);
    assert!(mentions("use redis::Client;", "redis"));
    assert!(!mentions("self.redis.ping(); super::redis::f(); predis::f()", "redis"));
}

/// All sources below a folder, the room named by what follows it.
fn sources(root: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(&root, path));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {}", root.display());
    found
}

fn read(root: &Path, path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a source file");
    let text_without_tests = match text.find("#[cfg(test)]\nmod ") {
        // `mod tests;` in the middle leads to a file of tests; `mod tests {` is the rest of this one.
        Some(start) if text[start..].lines().nth(1).is_some_and(|line| line.ends_with('{')) => {
            &text[..start]
        }
        _ => &text,
    };
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
    let code = text_without_tests.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    let relative = path.strip_prefix(root).expect("it lies below");
    let first = relative.iter().next().expect("a name").to_string_lossy();
    Source {
        room: first.trim_end_matches(".rs").to_owned(),
        lines: text_without_tests.lines().count(),
        documented: text.starts_with("//!"),
        code: if is_tests { String::new() } else { code },
        path,
    }
}

/// The names that directly follow a path prefix, also inside the braces of a grouped import.
fn names_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (start, _) in code.match_indices(prefix) {
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[start + prefix.len()..];
        match rest.strip_prefix('{') {
            None => names.extend(word(rest)),
            Some(group) => {
                let mut depth = 1;
                let mut expects_name = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => expects_name = true,
                        _ if expects_name && !c.is_whitespace() => {
                            names.extend(word(&group[at..]));
                            expects_name = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    names
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// Whether a path of the code begins with this crate.
fn mentions(code: &str, foreign: &str) -> bool {
    code.match_indices(&format!("{foreign}::")).any(|(start, _)| {
        !code[..start].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.'))
    })
}
