//! The system calls that the key holder may make once it has opened everything: files that Landlock lets it open, its
//! socket, threads, memory, time and randomness. No new sockets, no programs, no other process.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// On every architecture.
const CALLS: &[libc::c_long] = &[
    // Its socket and its files.
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_fchmod,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getsockopt,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_statx,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads. clone3 is answered by another filter, so that clone is used, whose flags can be looked at.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    // Time, randomness, and who it is.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getrandom,
    libc::SYS_getuid,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_uname,
];

/// Older forms of some of them, which arm has not.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

/// prctl(2) with this alone: the name of a thread.
const SET_NAME: u64 = 15;

/// Puts the filters in force, for this thread and those that it starts. Anything else is answered with EPERM.
pub(super) fn allow() -> Result<(), String> {
    let said = |e: &dyn core::fmt::Display| e.to_string();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| said(&e))?;
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    calls.insert(libc::SYS_prctl, vec![when(SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SET_NAME)?]);
    let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or(0);
    calls.insert(libc::SYS_clone, vec![when(SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(thread), thread)?]);
    let refused = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
    let unknown = SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or(38));
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    for filter in [
        SeccompFilter::new(clone3, SeccompAction::Allow, unknown, architecture),
        SeccompFilter::new(calls, refused, SeccompAction::Allow, architecture),
    ] {
        let filter = filter.map_err(|e| said(&e))?;
        let program = BpfProgram::try_from(filter).map_err(|e| said(&e))?;
        apply(&program)?;
    }
    Ok(())
}

fn apply(program: &BpfProgram) -> Result<(), String> {
    apply_filter(program).map_err(|e| e.to_string())
}

fn when(length: SeccompCmpArgLen, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    let condition = SeccompCondition::new(0, length, operator, value).map_err(|e| e.to_string())?;
    SeccompRule::new(vec![condition]).map_err(|e| e.to_string())
}
