//! seccomp: the system calls that decoding needs, found with `strace -f` over transcodes of every container and codec, and
//! nothing else. What only an attacker asks for ends the process at once; the rest is answered with EPERM.
//!
//! Three filters, of which the kernel takes the strictest answer. glibc makes threads with `clone3`, whose flags no filter
//! can see: told that it does not exist, it uses `clone`.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, apply_filter,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Allowed whatever their arguments are.
const ALLOWED: &[libc::c_long] = &[
    // The pipe and the socket to the parent. No recvmsg and sendmsg: those carry descriptors.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_ppoll,
    libc::SYS_close,
    // Memory. mmap and mprotect have a condition below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads. clone has a condition below.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals to itself. tgkill has a condition below.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Time, and what sorting and hashing ask for.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// No decoder asks for these: whoever does has taken the child over.
const DEADLY: &[libc::c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    // The network, and other processes by socket.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Other processes' memory, descriptors and signals.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    // Out of the root directory and the namespaces.
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    // The parts of the kernel that are attacked most.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
];

/// Holds for this thread and all that it makes.
pub(super) fn filter() -> Result<(), String> {
    install().map_err(|error| error.to_string())
}

fn install() -> Result<(), Error> {
    let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let enosys = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    apply_filter(&program(deadly()?, SeccompAction::KillProcess, SeccompAction::Allow)?)?;
    let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    apply_filter(&program(clone3, enosys, SeccompAction::Allow)?)?;
    // Last: it forbids to install another. It lets clone3 through to the answer of the filter before.
    apply_filter(&program(allowed()?, SeccompAction::Allow, eperm)?)
}

fn program(
    rules: Rules,
    matched: SeccompAction,
    otherwise: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()
}

fn allowed() -> Result<Rules, BackendError> {
    let mut rules = whatever(ALLOWED);
    // Memory is never both filled and run: no library is loaded any more.
    let not_executable = || masked(2, libc::PROT_EXEC, 0);
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    rules.insert(libc::SYS_mprotect, vec![not_executable()?]);
    // A thread, and not a process or a namespace.
    let kinds = libc::CLONE_THREAD | NEW_NAMESPACES;
    rules.insert(libc::SYS_clone, vec![masked(0, kinds, libc::CLONE_THREAD)?]);
    // Abort.
    let own = libc::pid_t::try_from(std::process::id()).unwrap_or(-1);
    rules.insert(libc::SYS_tgkill, vec![equal(0, own)?]);
    rules.insert(libc::SYS_prctl, vec![equal(0, libc::PR_SET_NAME)?]);
    rules.insert(libc::SYS_fcntl, vec![equal(1, libc::F_GETFD)?, equal(1, libc::F_GETFL)?]);
    Ok(rules)
}

fn deadly() -> Result<Rules, BackendError> {
    let mut rules = whatever(DEADLY);
    let process = masked(0, libc::CLONE_THREAD, 0)?;
    rules.insert(libc::SYS_clone, vec![process]);
    Ok(rules)
}

const NEW_NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

fn whatever(calls: &[libc::c_long]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// The argument, of which only these bits are looked at, has exactly those.
fn masked(argument: u8, bits: libc::c_int, set: libc::c_int) -> Result<SeccompRule, BackendError> {
    let operator = SeccompCmpOp::MaskedEq(wide(bits));
    rule(argument, operator, set)
}

fn equal(argument: u8, value: libc::c_int) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpOp::Eq, value)
}

/// All of them are ints to the kernel: what stands in the upper half of the register is not looked at.
fn rule(
    argument: u8,
    operator: SeccompCmpOp,
    value: libc::c_int,
) -> Result<SeccompRule, BackendError> {
    let width = SeccompCmpArgLen::Dword;
    SeccompRule::new(vec![SeccompCondition::new(argument, width, operator, wide(value))?])
}

fn wide(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}
