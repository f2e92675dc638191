//! Creating bridges, VLANs, VRFs and veth pairs: one message each, and a second one for an alias.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVlan, InfoVrf, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::change::{bond_info, port_info};
use crate::family::no_link_local_attribute;
use crate::name::{alias_attribute, validate_index, validate_link_name};
use crate::netlink::CREATE_NEW;
use crate::{
    BondOptions, BridgeOptions, Error, LinkChange, MacAddress, Namespace, Netlink, PortFlags, Result,
};

/// VLAN ids of a link; IEEE 802.1Q reserves 0 and 4095.
pub(crate) const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;

/// A bridge to create. `None` leaves the value to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewBridge {
    /// Name.
    pub name: String,
    /// Hardware address. A bridge without an explicit one takes that of its lowest port, and changes it when
    /// ports are added or removed.
    pub mac: Option<MacAddress>,
    /// MTU in bytes. Set here, it does not count as set by an administrator: the kernel still lowers it to
    /// that of the smallest port. Only a later [`Netlink::change_link`] fixes it, and only with a different
    /// value: the kernel does not pass a change to the present value to the bridge.
    pub mtu: Option<u32>,
    /// Free text attached to the link.
    pub alias: Option<String>,
    /// Set it up at once.
    pub up: bool,
    /// Give it an IPv6 link-local address when it comes up. Hosts behind the ports then reach this host's services on
    /// `[::]`.
    pub link_local: bool,
    /// Group to be born in; the kernel's default, 0, if `None`.
    pub group: Option<u32>,
    /// Options of the bridge.
    pub options: BridgeOptions,
}

/// A VLAN link (IEEE 802.1Q) to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVlan {
    /// Name.
    pub name: String,
    /// Index of the link beneath.
    pub parent: u32,
    /// VLAN id, 1 to 4094. The kernel accepts a later change of it and does nothing.
    pub id: u16,
    /// MTU in bytes, at most the parent's. The parent's if `None`.
    pub mtu: Option<u32>,
    /// Index of the bridge to become a port of.
    pub master: Option<u32>,
    /// Free text attached to the link.
    pub alias: Option<String>,
    /// Group to be born in; the kernel's default, 0, if `None`.
    pub group: Option<u32>,
    /// Set it up at once. Fails with ENETDOWN while the parent is down.
    pub up: bool,
}

/// A VRF (virtual routing and forwarding) link to create: its ports use a separate routing table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVrf {
    /// Name.
    pub name: String,
    /// Routing table of its ports, from 1. The kernel refuses 0.
    pub table: u32,
    /// MTU in bytes; 65575 if `None`.
    pub mtu: Option<u32>,
    /// Group to be born in; the kernel's default, 0, if `None`.
    pub group: Option<u32>,
    /// Free text attached to the link.
    pub alias: Option<String>,
    /// Set it up at once.
    pub up: bool,
}

/// A bond to create, without ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewBond {
    /// Name.
    pub name: String,
    /// Hardware address. A bond without an explicit one takes that of its first port.
    pub mac: Option<MacAddress>,
    /// MTU in bytes, which its ports get; 1500 if `None`.
    pub mtu: Option<u32>,
    /// Group to be born in; the kernel's default, 0, if `None`.
    pub group: Option<u32>,
    /// Options; the kernel's defaults for others.
    pub options: BondOptions,
}

/// A veth pair to create, its peer in another namespace.
#[derive(Clone, Debug)]
pub struct NewVeth<'a> {
    /// Name of the near end.
    pub name: String,
    /// Hardware address of the near end; random if `None`.
    pub mac: Option<MacAddress>,
    /// MTU of the near end in bytes; 1500 if `None`, whatever its master's.
    pub mtu: Option<u32>,
    /// Index of the bridge the near end becomes a port of.
    pub master: Option<u32>,
    /// Free text attached to the near end.
    pub alias: Option<String>,
    /// Set the near end up at once. It has no carrier until the far end is up, too.
    pub up: bool,
    /// Give the near end an IPv6 link-local address when it comes up. A bridge port needs none.
    pub link_local: bool,
    /// Flags of the near end as a port of its master.
    pub port: PortFlags,
    /// The far end.
    pub peer: VethPeer<'a>,
}

/// The far end of a veth pair. It is created down: the kernel cannot set a veth up before the pair is
/// connected (ENOTCONN), so that is a separate step.
#[derive(Clone, Debug)]
pub struct VethPeer<'a> {
    /// Name, free in `namespace`.
    pub name: String,
    /// Hardware address; random if `None`.
    pub mac: Option<MacAddress>,
    /// MTU in bytes; 1500 if `None`.
    pub mtu: Option<u32>,
    /// The namespace in which it is created.
    pub namespace: &'a Namespace,
}

impl Netlink {
    /// Creates a bridge.
    ///
    /// # Errors
    /// [`Error::is_exists`] if a link has the name; every other [`Error`] of a request.
    pub async fn create_bridge(&self, bridge: &NewBridge) -> Result<()> {
        let attempt = || format!("create bridge {}", bridge.name);
        let mut message = described(&bridge.name, bridge.mac, bridge.mtu)?;
        message.attributes.extend(bridge.group.map(LinkAttribute::Group));
        // Without a link-local address it comes up last: the kernel acts on IFF_UP before it looks at the address family's
        // settings in the same message (`do_setlink`), and by then the address may be there.
        attach(&mut message, None, bridge.up && bridge.link_local, attempt)?;
        let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
        let options = bridge.options.attributes();
        if !options.is_empty() {
            info.push(LinkInfo::Data(InfoData::Bridge(options)));
        }
        message.attributes.push(LinkAttribute::LinkInfo(info));
        let after =
            After { alias: bridge.alias.as_deref(), link_local: bridge.link_local, ..After::default() };
        self.create(message, &bridge.name, &after, "bridge", attempt).await?;
        if bridge.up && !bridge.link_local {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            let upped = self.change_link(&bridge.name, &up).await;
            return self.or_remove(&bridge.name, upped).await;
        }
        Ok(())
    }

    /// Creates a VLAN link.
    ///
    /// # Errors
    /// [`Error::is_exists`] if a link has the name or the parent has the id already; every other
    /// [`Error`] of a request.
    pub async fn create_vlan(&self, vlan: &NewVlan) -> Result<()> {
        let attempt = || format!("create VLAN {} on link {}", vlan.name, vlan.parent);
        validate_index(vlan.parent, attempt)?;
        if !VLAN_IDS.contains(&vlan.id) {
            let reason = format!("{} is not a VLAN id; valid are 1 to 4094", vlan.id);
            return Err(Error::Invalid { attempt: attempt(), reason });
        }
        let mut message = described(&vlan.name, None, vlan.mtu)?;
        message.attributes.extend(vlan.group.map(LinkAttribute::Group));
        attach(&mut message, vlan.master, vlan.up, attempt)?;
        message.attributes.push(LinkAttribute::Link(vlan.parent));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(vlan.id)])),
        ]));
        let after = After { alias: vlan.alias.as_deref(), ..After::default() };
        self.create(message, &vlan.name, &after, "8021q", attempt).await
    }

    /// Creates a VRF link.
    ///
    /// # Errors
    /// [`Error::is_exists`] if a link has the name; every other [`Error`] of a request.
    pub async fn create_vrf(&self, vrf: &NewVrf) -> Result<()> {
        let attempt = || format!("create VRF {} with table {}", vrf.name, vrf.table);
        let mut message = described(&vrf.name, None, vrf.mtu)?;
        message.attributes.extend(vrf.group.map(LinkAttribute::Group));
        attach(&mut message, None, vrf.up, attempt)?;
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vrf),
            LinkInfo::Data(InfoData::Vrf(vec![InfoVrf::TableId(vrf.table)])),
        ]));
        let after = After { alias: vrf.alias.as_deref(), ..After::default() };
        self.create(message, &vrf.name, &after, "vrf", attempt).await
    }

    /// Creates a bond.
    ///
    /// # Errors
    /// [`Error::is_exists`] if a link has the name; [`Error::Invalid`] for a value that is not one of an option; every
    /// other [`Error`] of a request.
    pub async fn create_bond(&self, bond: &NewBond) -> Result<()> {
        let attempt = || format!("create bond {}", bond.name);
        let mut message = described(&bond.name, bond.mac, bond.mtu)?;
        message.attributes.extend(bond.group.map(LinkAttribute::Group));
        message.attributes.push(bond_info(&bond.options, attempt)?);
        self.create(message, &bond.name, &After::default(), "bonding", attempt).await
    }

    /// Creates a veth pair with one message: both ends have their names, addresses and MTUs from the
    /// first moment, and the far end never exists outside its namespace. No rename or move is needed, so no
    /// intermediate state can remain.
    ///
    /// # Errors
    /// [`Error::is_exists`] if either name is taken in its namespace; every other [`Error`] of a
    /// request.
    pub async fn create_veth(&self, veth: &NewVeth<'_>) -> Result<()> {
        let attempt = || {
            let path = veth.peer.namespace.path().display();
            format!("create veth {} with its peer {} in {path}", veth.name, veth.peer.name)
        };
        let mut peer = described(&veth.peer.name, veth.peer.mac, veth.peer.mtu)?;
        let target = veth.peer.namespace.as_fd().as_raw_fd();
        peer.attributes.push(LinkAttribute::NetNsFd(target));
        peer.attributes.extend(one_queue());

        let mut message = described(&veth.name, veth.mac, veth.mtu)?;
        attach(&mut message, veth.master, veth.up, attempt)?;
        message.attributes.extend(one_queue());
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let after =
            After { alias: veth.alias.as_deref(), link_local: veth.link_local, port: Some(&veth.port) };
        self.create(message, &veth.name, &after, "veth", attempt).await
    }

    /// The kernel ignores an alias, the settings of an address family and the flags of a port in the message that creates a
    /// link (`rtnl_create_link` in net/core/rtnetlink.c), so a second message sets them. If the kernel refuses it, the link is
    /// removed again: the caller gets the described link, or none.
    async fn create(
        &self,
        message: LinkMessage,
        name: &str,
        after: &After<'_>,
        module: &str,
        attempt: impl Fn() -> String,
    ) -> Result<()> {
        let alias = after.alias.map(alias_attribute).transpose()?;
        let created = self.change(RouteNetlinkMessage::NewLink(message), CREATE_NEW, &attempt).await;
        created.map_err(|error| name_missing_module(error, module))?;

        let mut described = self.describe(name, alias.clone(), after, &attempt).await;
        if !after.link_local
            && matches!(&described, Err(cause) if cause.errno() == Some(Errno::EAFNOSUPPORT as i32))
        {
            // This kernel, or a link with so small an MTU, has no IPv6, so there is no such address. The kernel checks the
            // whole message first, so nothing has changed yet.
            let after = After { link_local: true, ..after.clone() };
            described = self.describe(name, alias, &after, &attempt).await;
        }
        self.or_remove(name, described).await
    }

    /// Removes the link if the second message failed, and returns that error.
    async fn or_remove(&self, name: &str, described: Result<()>) -> Result<()> {
        if let Err(cause) = &described {
            let undo = || format!("remove {name} again after this failure: {cause}");
            self.change(RouteNetlinkMessage::DelLink(named(name)?), 0, undo).await?;
        }
        described
    }

    /// The second message; `None` if it would be empty.
    async fn describe(
        &self,
        name: &str,
        alias: Option<LinkAttribute>,
        after: &After<'_>,
        attempt: impl Fn() -> String,
    ) -> Result<()> {
        let mut message = named(name)?;
        message.attributes.extend(alias);
        message.attributes.extend((!after.link_local).then(no_link_local_attribute));
        message.attributes.extend(after.port.and_then(port_info));
        if message.attributes.len() == 1 {
            return Ok(());
        }
        self.change(RouteNetlinkMessage::NewLink(message), 0, attempt).await
    }
}

/// The values that the creating message cannot contain.
#[derive(Clone)]
struct After<'a> {
    alias: Option<&'a str>,
    link_local: bool,
    port: Option<&'a PortFlags>,
}

impl Default for After<'_> {
    fn default() -> Self {
        Self { alias: None, link_local: true, port: None }
    }
}

/// One queue in each direction. Since 5.16 the kernel creates one for every possible processor, each with a directory in sysfs.
/// Those are for XDP and GRO on the link, which a pod's port does not use.
fn one_queue() -> [LinkAttribute; 2] {
    [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)]
}

/// A message about the link of this name.
fn named(name: &str) -> Result<LinkMessage> {
    validate_link_name(name)?;
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Ok(message)
}

/// Attributes of both ends of a veth and of every other link.
fn described(name: &str, mac: Option<MacAddress>, mtu: Option<u32>) -> Result<LinkMessage> {
    let mut message = named(name)?;
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.octets().to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    Ok(message)
}

/// Attributes that only a link in the socket's namespace can have.
fn attach(
    message: &mut LinkMessage,
    master: Option<u32>,
    up: bool,
    attempt: impl FnOnce() -> String,
) -> Result<()> {
    if let Some(master) = master {
        validate_index(master, attempt)?;
        message.attributes.push(LinkAttribute::Controller(master));
    }
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    Ok(())
}

/// The kernel's "Unknown device type" means that a module is neither built in nor loadable. The kernel
/// loads modules only through the host's modprobe, not the container's. EOPNOTSUPP
/// without that text means something else, such as an option this kernel was built without.
fn name_missing_module(error: Error, module: &str) -> Error {
    match error {
        Error::Refused { attempt, errno, message: Some(text) }
            if errno == Errno::EOPNOTSUPP as i32 && text.contains("Unknown device type") =>
        {
            let message = Some(format!("{text}: the kernel module {module} is missing or not loaded"));
            Error::Refused { attempt, errno, message }
        }
        other => other,
    }
}
