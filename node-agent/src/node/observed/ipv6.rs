//! IPv6 settings of a link. The kernel tells them by netlink; changed they can be below `/proc/sys/net/ipv6/conf` only.
//!
//! It resolves these paths by the network namespace of the thread that opens them, which for this program is the one it
//! was started in. That holds for the host's `/proc/sys/net` as well when it is mounted somewhere else in a container.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use octavia_bridge_netlink::LinkIpv6;
use serde::{Deserialize, Serialize};

/// The settings this program cares about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Ipv6 {
    /// `disable_ipv6`: no IPv6 address at all, not even a link-local one.
    pub(crate) disabled: bool,
    /// `accept_ra` is not 0: routers on the link may give addresses and routes.
    pub(crate) accept_ra: bool,
    /// It is 2: also where the node forwards packets, as nodes of an IPv6 cluster do.
    #[serde(default)]
    pub(crate) always: bool,
    /// `forwarding`: the kernel takes 1 in `accept_ra` for 0.
    #[serde(default)]
    pub(crate) forwards: bool,
}

/// One of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Setting {
    Disabled,
    AcceptRa,
    /// `accept_ra` 2 in place of 1.
    AcceptRaAlways,
}

impl Ipv6 {
    /// What the kernel gives to a new link, unless the administrator changed `conf/default`.
    pub(crate) const OF_NEW_LINK: Self =
        Self { disabled: false, accept_ra: true, always: false, forwards: false };

    pub(super) fn of(seen: LinkIpv6) -> Self {
        let LinkIpv6 { disabled, accept_ra, accept_ra_always, forwarding } = seen;
        Self { disabled, accept_ra, always: accept_ra_always, forwards: forwarding }
    }

    /// Whether routers on the link are heard.
    pub(crate) fn hears_routers(self) -> bool {
        self.accept_ra && (self.always || !self.forwards)
    }

    /// What has to be written to have `accept_ra` as it is here.
    pub(crate) fn accepting(self) -> (Setting, bool) {
        if self.always { (Setting::AcceptRaAlways, true) } else { (Setting::AcceptRa, self.accept_ra) }
    }

    pub(crate) fn set(&mut self, setting: Setting, on: bool) {
        match setting {
            Setting::Disabled => self.disabled = on,
            Setting::AcceptRa => (self.accept_ra, self.always) = (on, false),
            Setting::AcceptRaAlways => (self.accept_ra, self.always) = (true, on),
        }
    }
}

impl Setting {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Disabled => "disable_ipv6",
            Self::AcceptRa | Self::AcceptRaAlways => "accept_ra",
        }
    }

    pub(crate) fn value(self, on: bool) -> &'static str {
        match (self, on) {
            (Self::AcceptRaAlways, true) => "2",
            (Self::AcceptRaAlways, false) | (_, true) => "1",
            (_, false) => "0",
        }
    }
}

/// Like `/proc` itself the same for the whole process, and known before the first link is looked at.
static PROC_SYS: OnceLock<PathBuf> = OnceLock::new();

/// Says that the settings are found below `folder`, which holds what `/proc/sys` does; once, at the start.
pub(crate) fn find_below(folder: &Path) {
    PROC_SYS.get_or_init(|| folder.to_owned());
}

/// Writes one setting. That it is so already is no less, even where it could not be written: a container often has
/// `/proc/sys` read-only.
///
/// # Errors
/// The operating system's, with the path.
pub(crate) fn write(link: &str, setting: Setting, on: bool) -> Result<(), Error> {
    let folder = PROC_SYS.get().map_or(Path::new("/proc/sys"), PathBuf::as_path);
    let path = folder.join("net/ipv6/conf").join(link).join(setting.key());
    let value = setting.value(on);
    let Err(cause) = fs::write(&path, value) else { return Ok(()) };
    let is_so = match fs::read_to_string(&path) {
        Ok(now) => now.trim() == value,
        // A kernel without IPv6 has nothing to switch off.
        Err(cause) => cause.kind() == ErrorKind::NotFound && on == (setting == Setting::Disabled),
    };
    if is_so {
        return Ok(());
    }
    let hint = match cause.kind() {
        ErrorKind::ReadOnlyFilesystem => "; in a container, mount the host's and name it with --proc-sys",
        _ => "",
    };
    Err(Error::new(cause.kind(), format!("write {value} to {}: {cause}{hint}", path.display())))
}
