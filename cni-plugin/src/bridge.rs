//! The bridge: looked at, made when missing, and left as it was found when an ADD fails.

use octavia_bridge_netlink::{Link, LinkChange, LinkKind, MacAddress, Netlink, NewBridge};

use crate::attachment::{Attachment, BridgeMode};
use crate::protocol::{Code, Error};
use crate::record::{BridgeBefore, LinkIntent};
use crate::sysctl::{Family, Sysctl};

/// The bridge as it stands, refused where this attachment could not use it.
pub(crate) async fn observe(host: &Netlink, attachment: &Attachment) -> Result<Option<Link>, Error> {
    let name = &attachment.bridge;
    let link =
        host.link(name.as_str()).await.map_err(|cause| Error::kernel("look for the bridge", &cause))?;
    let unmanaged = attachment.mode == BridgeMode::Unmanaged;
    let Some(link) = link else {
        if unmanaged {
            return Err(Error::new(
                Code::TryAgainLater,
                format!("bridge: {name:?} does not exist, and bridgeMode \"unmanaged\" forbids making it"),
            )
            .with_details("the node's network configuration has to make it first"));
        }
        return Ok(None);
    };
    if !matches!(link.kind, LinkKind::Bridge(_)) {
        return Err(Error::new(
            Code::InvalidConfig,
            format!("bridge: {name:?} exists and is no bridge but {}; name a bridge", describe(&link.kind)),
        ));
    }
    if unmanaged && !link.up {
        return Err(Error::new(
            Code::TryAgainLater,
            format!("bridge: {name:?} is down, and bridgeMode \"unmanaged\" forbids bringing it up"),
        ));
    }
    if let Some(mtu) = attachment.mtu.filter(|mtu| *mtu > link.mtu) {
        return Err(Error::new(
            Code::InvalidConfig,
            format!(
                "mtu: {mtu} exceeds the {} bytes of the bridge {name}; the bridge would drop what is longer",
                link.mtu
            ),
        ));
    }
    Ok(Some(link))
}

/// How the record remembers what was observed.
pub(crate) fn before(observed: Option<&Link>) -> BridgeBefore {
    match observed {
        None => BridgeBefore::Absent,
        Some(link) if link.up => BridgeBefore::Up,
        Some(_) => BridgeBefore::Down,
    }
}

/// Makes the bridge, or brings an existing managed one up. Returns it as the kernel has it.
pub(crate) async fn ensure(
    host: &Netlink,
    attachment: &Attachment,
    observed: Option<Link>,
    new_mac: MacAddress,
) -> Result<Link, Error> {
    let name = &attachment.bridge;
    let link = match observed {
        Some(link) if link.up => link,
        Some(link) => {
            host.change_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })
                .await
                .map_err(|cause| Error::kernel(format!("bring up the bridge {name}"), &cause))?;
            Link { up: true, ..link }
        }
        None => create(host, attachment, new_mac).await?,
    };
    if attachment.mode == BridgeMode::Managed {
        // The host has no business on this network: it must not take an address from its routers.
        Sysctl { family: Family::V6, link: name, key: "accept_ra", value: "0", if_present: true }.apply()?;
    }
    Ok(link)
}

async fn create(host: &Netlink, attachment: &Attachment, mac: MacAddress) -> Result<Link, Error> {
    let name = &attachment.bridge;
    let failed = |cause| Error::kernel(format!("make the bridge {name}"), &cause);
    host.create_bridge(&NewBridge {
        name: name.clone(),
        // A MAC of its own from the first moment: otherwise it would be the lowest of the ports' and change with
        // them, and be zero without any (containernetworking/cni#285, containers/netavark#833).
        mac: Some(mac),
        up: true,
        ..NewBridge::default()
    })
    .await
    .map_err(failed)?;
    let link =
        host.link(name.as_str()).await.map_err(failed)?.ok_or_else(|| {
            Error::new(Code::Kernel, format!("make the bridge {name}: it vanished at once"))
        })?;
    // Only an MTU set after creation counts as the administrator's; one given in the creating message follows
    // the smallest port (net/bridge/br_if.c, br_mtu_auto_adjust and BROPT_MTU_SET_BY_USER).
    let Some(mtu) = attachment.mtu else { return Ok(link) };
    host.change_link(link.index, &LinkChange { mtu: Some(mtu), ..LinkChange::default() })
        .await
        .map_err(failed)?;
    Ok(Link { mtu, ..link })
}

/// Takes back what an unfinished ADD did to its bridge: a bridge it made goes, one it brought up goes down, unless
/// somebody else has come to rely on it meanwhile.
pub(crate) async fn restore(host: &Netlink, intent: &LinkIntent) -> Result<(), Error> {
    let name = intent.bridge.as_str();
    if intent.bridge_before == BridgeBefore::Up {
        return Ok(());
    }
    let failed = |cause| Error::kernel(format!("restore the bridge {name}"), &cause);
    let Some(bridge) = host.link(name).await.map_err(failed)? else { return Ok(()) };
    let ports = host.ports(bridge.index).await.map_err(failed)?;
    match intent.bridge_before {
        BridgeBefore::Absent => {
            if ports.is_empty() && bridge.mac.is_some_and(|mac| mac.to_string() == intent.bridge_mac) {
                host.delete_link(bridge.index).await.map_err(failed)?;
            }
        }
        BridgeBefore::Down => {
            if !ports.iter().any(|port| matches!(port.kind, LinkKind::Veth)) {
                host.change_link(bridge.index, &LinkChange { up: Some(false), ..LinkChange::default() })
                    .await
                    .map_err(failed)?;
            }
        }
        BridgeBefore::Up => {}
    }
    Ok(())
}

fn describe(kind: &LinkKind) -> String {
    match kind {
        LinkKind::Vlan { .. } => "a VLAN interface".into(),
        LinkKind::Veth => "one end of a veth pair".into(),
        LinkKind::Other(kind) => format!("a link of kind {kind}"),
        LinkKind::None => "a physical interface".into(),
        other => format!("another kind of link ({other:?})"),
    }
}
