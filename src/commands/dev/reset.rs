//! `clipstream dev reset`: wipes a stopped stack. Asks first.

use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::process::ExitCode;

use super::Place;
use super::directory::Directory;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = super::absolute(&args.place.dir)?;
    if !path.exists() {
        writeln!(stdout(), "There is nothing at {}.", path.display())?;
        return Ok(ExitCode::SUCCESS);
    }
    let directory = Directory::open(&path)?;
    if !args.yes && !confirmed(&directory)? {
        writeln!(stderr(), "Nothing was removed.")?;
        return Ok(ExitCode::FAILURE);
    }
    directory.wipe()?;
    writeln!(stdout(), "Wiped {}. The next `clipstream dev` starts empty.", path.display())?;
    Ok(ExitCode::SUCCESS)
}

fn confirmed(directory: &Directory) -> anyhow::Result<bool> {
    if !stdin().is_terminal() {
        anyhow::bail!(
            "this wipes all videos of the stack; without a terminal to ask on, say --yes"
        );
    }
    write!(
        stderr(),
        "Remove all videos, rows and events under {}? [y/N] ",
        directory.path().display()
    )?;
    stderr().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
