//! A user, network, IPC and host-name space of its own: no network card, not even a loopback, nobody's shared memory, and
//! no user that the rest of the machine knows as root.

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// In one step, so that it is all or nothing. No user is mapped into the new space: none is needed.
pub(super) fn enter() -> Result<(), String> {
    let flags =
        UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    #[expect(unsafe_code, reason = "unshare is unsafe for its flag that splits file tables")]
    // SAFETY: CLONE_FILES is not among the flags, so no descriptor changes its meaning.
    let entered = unsafe { unshare_unsafe(flags) };
    entered.map_err(|errno| format!("unshare: {errno}"))
}
