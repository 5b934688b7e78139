//! What the process is to others: it dies with its parent, holds no privilege and no descriptor but its three, and nobody
//! of its user can look into it.

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, getppid, set_dumpable_behavior, set_parent_process_death_signal,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

const FIRST_INHERITED: libc::c_uint = 3;

pub(super) fn harden() -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |errno: Errno| format!("{what}: {errno}")
    };
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("parent-death signal"))?;
    // A parent that died before the line above sends no signal any more.
    if getppid() != parent {
        return Err("the parent died before the media child could start".into());
    }
    set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    clear_ambient_capability_set().map_err(failed("ambient capabilities"))?;
    set_capabilities(None, none).map_err(failed("capabilities"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("dumpable"))?;
    close_inherited().map_err(failed("close_range"))
}

/// Whatever a parent of ours forgot to mark close-on-exec, and whatever its own parent did.
fn close_inherited() -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "no safe wrapper closes a range")]
    // SAFETY: nothing in this process owns a descriptor from 3 on: it has opened none yet. Takes three numbers.
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST_INHERITED, libc::c_uint::MAX, 0) };
    if answer == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
