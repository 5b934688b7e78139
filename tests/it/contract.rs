//! Documents that the code can make false: `.env.example`, and the commands that the documents name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;

#[test]
fn the_example_environment_lists_exactly_the_settings() {
    let example = read(&root().join(".env.example"));
    let listed: BTreeSet<String> = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| {
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    let mut known = BTreeSet::new();
    settings(&clipstream::cli::command(), &mut known);
    let missing: Vec<_> = known.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&known).collect();
    assert!(missing.is_empty(), ".env.example lacks {missing:?}");
    assert!(unknown.is_empty(), ".env.example names {unknown:?}, which nothing reads");
}

#[test]
fn no_setting_shows_its_secret_in_the_help() {
    let mut shown = Vec::new();
    visit(&clipstream::cli::command(), &mut |argument| {
        let name = argument.get_env().unwrap_or_default().to_string_lossy().into_owned();
        let secret = ["KEY", "PASSWORD", "TOKEN", "REDIS_URL", "DATABASE_URL"];
        if secret.iter().any(|part| name.contains(part)) && !argument.is_hide_env_values_set() {
            shown.push(name);
        }
    });
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn documents_name_only_commands_that_exist() {
    let command = clipstream::cli::command();
    let mut documents = vec![root().join("README.md")];
    markdown(&root().join("docs"), &mut documents);
    let mut wrong = Vec::new();
    for path in documents {
        for line in commands_in(&read(&path)) {
            let mut at = &command;
            for word in line.split_whitespace() {
                match at.find_subcommand(word) {
                    Some(sub) => at = sub,
                    None if at.has_subcommands()
                        && at.is_subcommand_required_set()
                        && is_word(word) =>
                    {
                        wrong.push(format!("{}: clipstream {line}", path.display()));
                        break;
                    }
                    None => break,
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_security_document_names_only_files_that_are_there() {
    let text = read(&root().join("SECURITY.md"));
    let is_path = |span: &&str| {
        ["pipeline/", "src/", "minio-setup/"].iter().any(|folder| span.starts_with(folder))
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_path).collect();
    assert!(named.len() > 10, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What follows `clipstream ` where it is code: at the start of an indented or fenced line, or of a code span.
fn commands_in(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let code = line.trim_start().trim_start_matches("$ ");
        if let Some(command) = code.strip_prefix("clipstream ").filter(|_| fenced) {
            found.push(command.to_owned());
        }
        for (at, _) in line.match_indices("`clipstream ").filter(|_| !fenced) {
            let span = &line[at + "`clipstream ".len()..];
            found.push(span.split('`').next().unwrap_or_default().to_owned());
        }
    }
    found
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        && !text.starts_with('-')
}

fn settings(command: &Command, names: &mut BTreeSet<String>) {
    visit(command, &mut |argument| {
        names.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
    });
}

fn visit(command: &Command, to: &mut impl FnMut(&clap::Arg)) {
    command.get_arguments().for_each(&mut *to);
    for sub in command.get_subcommands() {
        visit(sub, to);
    }
}

fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of documents") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            markdown(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
