//! Peak memory of one process.
//!
//! `ru_maxrss` cannot tell: exec keeps the high-water mark of the process that forked (`setmax_mm_hiwater_rss` in the
//! kernel's fs/exec.c), so a plugin smaller than its parent seems as large as the parent. `VmHWM` belongs to the new
//! program alone, but is gone when it has ended. Hence a stop just before the end, where it is final and can be read.

use std::fs;

use nix::sys::ptrace::{self, Event, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use octavia_bridge_tests::Pod;

use crate::contestant::Contestant;

/// Runs an ADD and returns its process's peak resident memory in bytes. Programs it starts do not count.
pub(crate) fn peak(contestant: &Contestant, pod: &Pod) -> u64 {
    let mut child = contestant.start("ADD", pod);
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    // In time: it cannot end before it has its configuration.
    ptrace::seize(pid, Options::PTRACE_O_TRACEEXIT).expect("trace the plugin");
    contestant.configure(&mut child);
    let peak = loop {
        match waitpid(pid, None).expect("wait for the traced plugin") {
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXIT as i32 => {
                break high_water_mark(pid);
            }
            // Go's runtime sends itself signals; they go on to it.
            WaitStatus::Stopped(_, signal) => ptrace::cont(pid, signal).expect("continue the plugin"),
            WaitStatus::PtraceEvent(..) => ptrace::cont(pid, None).expect("continue the plugin"),
            other => panic!("the plugin ended before its memory could be read: {other:?}"),
        }
    };
    ptrace::detach(pid, None).expect("let the plugin end");
    contestant.wait(child);
    peak
}

fn high_water_mark(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the plugin's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|value| value.parse::<u64>().ok());
    kibibytes.unwrap_or_else(|| panic!("no VmHWM in:\n{status}")) * 1024
}
