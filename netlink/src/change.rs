//! Changing and deleting links.

use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::family::arp_notify_attribute;
use crate::name::{alias_attribute, validate_index, validate_link_name};
use crate::{BondOption, BondOptions, BridgeOptions, Error, LinkId, MacAddress, Netlink, PortFlags, Result};

/// Changes to a link; `None` leaves a value unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// New name. Older kernels (6.1) refuse to rename a link that is up (EBUSY), also by the message
    /// that sets it down.
    pub name: Option<String>,
    /// Administrative state.
    pub up: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Hardware address.
    pub mac: Option<MacAddress>,
    /// Index of the bridge to become a port of; `Some(None)` leaves the present one.
    pub master: Option<Option<u32>>,
    /// Free text attached to the link; an empty text removes it.
    pub alias: Option<String>,
    /// Group, by which an administrator acts on several links at once.
    pub group: Option<u32>,
    /// Promiscuous mode.
    pub promiscuous: Option<bool>,
    /// Send a gratuitous ARP for every address when the link comes up or its hardware address changes (`arp_notify`). The
    /// kernel applies this value last: it has no effect on a change in the same message.
    pub arp_notify: Option<bool>,
}

impl Netlink {
    /// Changes a link with one message; sends none if there is no change. To rename a link, identify it by index.
    ///
    /// The kernel applies the values one after the other (`do_setlink` in net/core/rtnetlink.c) and
    /// keeps those before the refused one: read back after an error.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such link; every other [`Error`] of a request.
    pub async fn change_link(&self, link: impl Into<LinkId<'_>>, change: &LinkChange) -> Result<()> {
        let link = link.into();
        let attempt = || format!("change {link} ({})", change.summary());
        let Some(message) = change.message(link)? else { return Ok(()) };
        self.change(RouteNetlinkMessage::NewLink(message), 0, attempt).await
    }

    /// Changes options of a bridge with one message; sends none if there is no change.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such link; every other [`Error`] of a request.
    pub async fn change_bridge(&self, index: u32, options: &BridgeOptions) -> Result<()> {
        let options = options.attributes();
        if options.is_empty() {
            return Ok(());
        }
        let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(options))];
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::LinkInfo(info));
        self.change_existing(message, || format!("change options of bridge {index}")).await
    }

    /// Changes options of a bond with one message; sends none if there is no change.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such link; [`Error::Invalid`] for a value that is not one of an option; every
    /// other [`Error`] of a request.
    pub async fn change_bond(&self, index: u32, options: &BondOptions) -> Result<()> {
        if options.is_empty() {
            return Ok(());
        }
        let attempt = || {
            let all: Vec<String> = options.iter().map(|(name, value)| format!("{name} {value}")).collect();
            format!("change options of bond {index} ({})", all.join(", "))
        };
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(bond_info(options, attempt)?);
        self.change_existing(message, attempt).await
    }

    /// Changes flags of a bridge port with one message; sends none if there is no change.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such link; every other [`Error`] of a request.
    pub async fn change_port(&self, index: u32, flags: &PortFlags) -> Result<()> {
        let Some(info) = port_info(flags) else { return Ok(()) };
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(info);
        self.change_existing(message, || format!("change flags of bridge port {index}")).await
    }

    /// Deletes a link, and with a veth also its other end, in whichever namespace. Takes tens of
    /// milliseconds, mostly the kernel's wait for readers of its tables.
    ///
    /// Returns whether the link was there.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn delete_link(&self, index: u32) -> Result<bool> {
        let attempt = || format!("delete link {index}");
        validate_index(index, attempt)?;
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.change(RouteNetlinkMessage::DelLink(message), 0, attempt).await {
            Ok(()) => Ok(true),
            Err(Error::Refused { errno, .. }) if errno == Errno::ENODEV as i32 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `RTM_NEWLINK` without `NLM_F_CREATE`, because `RTM_SETLINK` ignores the options of bridges and ports.
    async fn change_existing(&self, message: LinkMessage, attempt: impl Fn() -> String) -> Result<()> {
        validate_index(message.header.index, &attempt)?;
        self.change(RouteNetlinkMessage::NewLink(message), 0, attempt).await
    }
}

/// Options of a bond as an attribute of a message about it.
pub(crate) fn bond_info(options: &BondOptions, attempt: impl Fn() -> String) -> Result<LinkAttribute> {
    let mut attributes = Vec::new();
    for (name, value) in options {
        let attribute = BondOption::named(name).and_then(|option| option.attribute(value));
        let reason = || format!("a bond has no option {name} with the value {value:?}");
        attributes.push(attribute.ok_or_else(|| Error::Invalid { attempt: attempt(), reason: reason() })?);
    }
    Ok(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bond),
        LinkInfo::Data(InfoData::Bond(attributes)),
    ]))
}

/// Flags of a bridge port as an attribute of a message about its link; `None` if none is stated.
pub(crate) fn port_info(flags: &PortFlags) -> Option<LinkAttribute> {
    let flags = flags.attributes();
    if flags.is_empty() {
        return None;
    }
    Some(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(flags)),
    ]))
}

impl LinkChange {
    /// The message, or `None` if there is no change.
    fn message(&self, link: LinkId<'_>) -> Result<Option<LinkMessage>> {
        if *self == Self::default() {
            return Ok(None);
        }
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        // With an index, the kernel takes a name as the new name. Without one, it finds the link by the name.
        let name = match link {
            LinkId::Index(index) => {
                validate_index(index, || format!("change {link} ({})", self.summary()))?;
                message.header.index = index;
                self.name.as_deref()
            }
            LinkId::Name(name) if self.name.is_none() => Some(name),
            LinkId::Name(_) => {
                let attempt = format!("change {link} ({})", self.summary());
                return Err(Error::Invalid {
                    attempt,
                    reason: "to be renamed, a link needs to be known by its index".into(),
                });
            }
        };
        if let Some(name) = name {
            validate_link_name(name)?;
            attributes.push(LinkAttribute::IfName(name.to_owned()));
        }
        if let Some(alias) = &self.alias {
            attributes.push(alias_attribute(alias)?);
        }
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.octets().to_vec())));
        attributes.extend(self.group.map(LinkAttribute::Group));
        if self.master == Some(Some(0)) {
            validate_index(0, || format!("make {link} a port"))?;
        }
        // Index 0 means "no master".
        attributes.extend(self.master.map(|master| LinkAttribute::Controller(master.unwrap_or(0))));
        attributes.extend(self.arp_notify.map(arp_notify_attribute));
        for (flag, wanted) in [(LinkFlags::Up, self.up), (LinkFlags::Promisc, self.promiscuous)] {
            if let Some(on) = wanted {
                message.header.change_mask |= flag;
                message.header.flags.set(flag, on);
            }
        }
        Ok(Some(message))
    }

    /// Names the changed values, for errors: one message may contain several.
    fn summary(&self) -> String {
        let on_off = |on: bool| if on { "on" } else { "off" };
        let parts = [
            self.name.as_ref().map(|name| format!("name {name}")),
            self.mac.map(|mac| format!("MAC {mac}")),
            self.mtu.map(|mtu| format!("MTU {mtu}")),
            self.alias.as_ref().map(|alias| format!("alias {alias:?}")),
            self.master.map(|master| match master {
                Some(master) => format!("master {master}"),
                None => "no master".into(),
            }),
            self.group.map(|group| format!("group {group}")),
            self.promiscuous.map(|on| format!("promiscuous {}", on_off(on))),
            self.arp_notify.map(|on| format!("arp_notify {}", on_off(on))),
            self.up.map(|up| if up { "up".into() } else { "down".into() }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stated_is_no_message() {
        assert!(LinkChange::default().message(7.into()).unwrap().is_none());
    }

    #[test]
    fn only_stated_flags_are_in_the_mask() {
        let change = LinkChange { up: Some(false), ..LinkChange::default() };
        let header = change.message(7.into()).unwrap().unwrap().header;
        assert_eq!((header.flags, header.change_mask), (LinkFlags::empty(), LinkFlags::Up));
    }

    #[test]
    fn errors_name_every_value_of_the_message() {
        let change = LinkChange {
            name: Some("net1".into()),
            mtu: Some(9000),
            master: Some(None),
            up: Some(true),
            ..LinkChange::default()
        };
        assert_eq!(change.summary(), "name net1, MTU 9000, no master, up");
    }
}
