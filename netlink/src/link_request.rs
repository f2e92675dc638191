//! Reading links.

use std::fmt;

use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage};

use crate::channel::Request;
use crate::name::{validate_index, validate_link_name};
use crate::{Error, Link, LinkKind, Netlink, Result};

/// How to find a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkId<'a> {
    /// By name; the kernel accepts alternative names as well.
    Name(&'a str),
    /// By index.
    Index(u32),
}

impl<'a> From<&'a str> for LinkId<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for LinkId<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

impl From<u32> for LinkId<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for LinkId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "link {name}"),
            Self::Index(index) => write!(f, "link {index}"),
        }
    }
}

impl Netlink {
    /// Reads one link; `None` if there is no such link.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn link(&self, by: impl Into<LinkId<'_>>) -> Result<Option<Link>> {
        let by = by.into();
        let attempt = || format!("read {by}");
        let mut message = query();
        match by {
            LinkId::Name(name) => {
                validate_link_name(name)?;
                message.attributes.push(LinkAttribute::IfName(name.to_owned()));
            }
            LinkId::Index(index) => {
                validate_index(index, attempt)?;
                message.header.index = index;
            }
        }
        let request = Request::get(RouteNetlinkMessage::GetLink(message));
        match self.request(request, self.decode_link, attempt).await {
            Ok(links) => Ok(links.into_iter().next()),
            Err(error) if error.errno() == Some(Errno::ENODEV as i32) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all links of the namespace, ordered by index.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let request = Request::dump(RouteNetlinkMessage::GetLink(query()));
        let mut links = self.request(request, self.decode_link, || "list links".into()).await?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Reads the VLANs of the namespace, ordered by index; the kernel filters.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn vlans(&self) -> Result<Vec<Link>> {
        let mut links = self.of_kind(InfoKind::Vlan, "list VLANs").await?;
        // A kernel that has not loaded 8021q does not know this type, and answers with all links (`linkinfo_to_kind_ops`
        // in net/core/rtnetlink.c).
        links.retain(|link| matches!(link.kind, LinkKind::Vlan { .. }));
        Ok(links)
    }

    /// Reads the ends of veth pairs that are in the namespace, ordered by index; the kernel filters.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn veths(&self) -> Result<Vec<Link>> {
        let mut links = self.of_kind(InfoKind::Veth, "list veths").await?;
        // As with VLANs.
        links.retain(|link| link.kind == LinkKind::Veth);
        Ok(links)
    }

    async fn of_kind(&self, kind: InfoKind, attempt: &str) -> Result<Vec<Link>> {
        let mut message = query();
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        let request = Request::dump(RouteNetlinkMessage::GetLink(message));
        let mut links = self.request(request, self.decode_link, || attempt.into()).await?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// Reads the ports of a bridge (or any other master); the kernel filters.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in. A bridge that does not exist has no ports.
    pub async fn ports(&self, bridge: u32) -> Result<Vec<Link>> {
        let attempt = || format!("list ports of link {bridge}");
        validate_index(bridge, attempt)?;
        let mut message = query();
        message.attributes.push(LinkAttribute::Controller(bridge));
        let request = Request::dump(RouteNetlinkMessage::GetLink(message));
        match self.request(request, self.decode_link, attempt).await {
            Ok(mut ports) => {
                ports.sort_by_key(|link| link.index);
                Ok(ports)
            }
            // Newer kernels report a missing master; older ones return no ports.
            Err(Error::Refused { errno, .. }) if errno == Errno::ENODEV as i32 => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Statistics are a third of each answer, and this crate does not use them.
fn query() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}
