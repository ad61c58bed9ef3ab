//! The layers that a command's process applies to itself, as the last step before it starts the command.
//!
//! | layer | implementation |
//! |---|---|
//! | descriptors | all but the standard ones are closed when the command starts |
//! | privileges | no new privileges; the bounding set emptied and every capability dropped |
//! | landlock | the rules of [`super::rules`], with `/proc` and `/dev/shm`, which do not exist earlier |
//! | seccomp | the filters of [`super::filter`]; the second one's listener goes to the [supervisor](super::supervisor) |

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::enter::Failed;
use crate::Layer;

/// The prepared layers: created before the fork, and applied between fork and exec, where nothing may allocate.
pub(super) struct Confinement {
    pub rules: OwnedFd,
    /// The access rights for `/proc` and `/dev/shm` that the rules support.
    pub kernel_files: [u64; 2],
    pub filter: Vec<libc::sock_filter>,
    pub watch: Vec<libc::sock_filter>,
    /// The socket that sends the listener to the supervisor.
    pub supervisor: OwnedFd,
}

/// `struct landlock_path_beneath_attr` of the kernel.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: RawFd,
}

const RULE_PATH_BENEATH: libc::c_int = 1;
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// An upper bound on the number of the kernel's capabilities.
const CAPABILITIES: libc::c_ulong = 64;

impl Confinement {
    pub fn apply(&self) -> Result<(), Failed> {
        let at = |layer: Layer| move |error| (layer as u8, error);
        call(libc::SYS_close_range, [3, libc::c_ulong::from(u32::MAX), libc::c_ulong::from(libc::CLOSE_RANGE_CLOEXEC)])
            .map_err(at(Layer::Descriptors))?;
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as _, 1, 0]).map_err(at(Layer::Privileges))?;
        self.restrict().map_err(at(Layer::Landlock))?;
        drop_capabilities().map_err(at(Layer::Privileges))?;
        self.filter_calls().map_err(at(Layer::Seccomp))
    }

    fn restrict(&self) -> Result<(), Errno> {
        let rules = self.rules.as_raw_fd();
        for (path, allowed_access) in [c"/proc", c"/dev/shm"].into_iter().zip(self.kernel_files) {
            // SAFETY: the path is a C string. The descriptor is closed by exec.
            let parent = Errno::result(unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) })?;
            let rule = PathBeneath { allowed_access, parent };
            // SAFETY: the rule has the kernel's layout and outlives the call.
            let added =
                unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules, RULE_PATH_BENEATH, &raw const rule, 0) };
            Errno::result(added)?;
        }
        call(libc::SYS_landlock_restrict_self, [rules as _, 0, 0]).map(drop)
    }

    fn filter_calls(&self) -> Result<(), Errno> {
        set_filter(&self.filter, 0)?;
        let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // A signal does not interrupt a call that the supervisor is handling, if the kernel supports this.
        let listener = match set_filter(&self.watch, listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
            Err(Errno::EINVAL) => set_filter(&self.watch, listener)?,
            listener => listener?,
        };
        send_descriptor(self.supervisor.as_raw_fd(), listener)?;
        // SAFETY: the descriptor is this function's own.
        unsafe { libc::close(listener) };
        Ok(())
    }
}

fn call(number: libc::c_long, arguments: [libc::c_ulong; 3]) -> Result<libc::c_long, Errno> {
    let [first, second, third] = arguments;
    // SAFETY: the callers pass numbers only, of calls that touch no memory.
    Errno::result(unsafe { libc::syscall(number, first, second, third, 0, 0) })
}

fn drop_capabilities() -> Result<(), Errno> {
    for capability in 0..CAPABILITIES {
        match call(libc::SYS_prctl, [libc::PR_CAPBSET_DROP as _, capability, 0]) {
            // There are no further capabilities.
            Err(Errno::EINVAL) => break,
            result => result?,
        };
    }
    let (header, sets) = ([CAPABILITY_VERSION, 0], [0_u32; 6]);
    // SAFETY: both arrays have the layout of version 3 of the call, and outlive it.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

fn set_filter(filter: &[libc::sock_filter], flags: libc::c_ulong) -> Result<RawFd, Errno> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program has the stated length and outlives the call, which only reads it.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    Errno::result(result).map(|result| result as RawFd)
}

/// A control message with one descriptor.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    descriptor: RawFd,
}

/// Sends a descriptor with one byte. (The safe wrapper allocates.)
fn send_descriptor(socket: RawFd, descriptor: RawFd) -> Result<(), Errno> {
    let mut byte = [0_u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all pointers are to variables that outlive the call, with their lengths; a zeroed header is valid.
    unsafe {
        let mut rights = Rights { header: std::mem::zeroed(), descriptor };
        rights.header.cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        rights.header.cmsg_level = libc::SOL_SOCKET;
        rights.header.cmsg_type = libc::SCM_RIGHTS;
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut rights).cast();
        message.msg_controllen = size_of::<Rights>() as _;
        Errno::result(libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL)).map(drop)
    }
}
