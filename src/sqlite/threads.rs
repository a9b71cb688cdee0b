//! The priority of threads: who answers questions makes way for who answers hits.

/// The nice value of a thread with low priority; 19 is the lowest priority.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Lets all other threads of the process go first where the processors do not suffice for all. On Linux a thread has a
/// priority of its own; elsewhere everything stays as it is.
#[cfg(target_os = "linux")]
pub fn give_way() {
    // Where it is not allowed, questions take the hits' time, as they would without it.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

/// Does nothing on this system.
#[cfg(not(target_os = "linux"))]
pub fn give_way() {}
