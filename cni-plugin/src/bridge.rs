//! The bridge: looked at, made when missing, and left as it was found when an ADD fails.

use std::net::IpAddr;
use std::time::Duration;

use octavia_bridge_netlink::{BridgeOptions, Link, LinkChange, LinkKind, MacAddress, Netlink, NewBridge};

use crate::attachment::{Attachment, BridgeMode, check_mtu_for};
use crate::port_vlans;
use crate::protocol::{Code, Error};
use crate::record::{BridgeBefore, LinkIntent};
use crate::sysctl::Sysctl;

/// Ports of one bridge (`BR_MAX_PORTS`, of which number 0 is none).
const MOST_PORTS: usize = 1023;

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
            .with_details("configure the bridge on the node first, or set bridgeMode to \"managed\""));
        }
        return Ok(None);
    };
    if !matches!(link.kind, LinkKind::Bridge(_)) {
        return Err(Error::new(
            Code::InvalidConfig,
            format!(
                "bridge: {name:?} is {}, not a bridge; set \"bridge\" to the name of a bridge",
                describe(&link)
            ),
        ));
    }
    if unmanaged && !link.up {
        return Err(Error::new(
            Code::TryAgainLater,
            format!("bridge: {name:?} is down, and bridgeMode \"unmanaged\" forbids bringing it up"),
        )
        .with_details(format!(
            "bring it up on the node (ip link set {name} up), or set bridgeMode to \"managed\""
        )));
    }
    port_vlans::check_bridge(attachment.port_vlans.as_ref(), &link)?;
    if let Some(mtu) = attachment.mtu.filter(|mtu| *mtu > link.mtu) {
        return Err(Error::new(
            Code::InvalidConfig,
            format!(
                "mtu: {mtu} exceeds the {} bytes of the bridge {name}; the bridge would drop what is longer",
                link.mtu
            ),
        ));
    }
    check_mtu_for(Some(attachment.mtu.unwrap_or(link.mtu)), &attachment.addressing.known_addresses())
        .map_err(|error| error.with_details(format!("the bridge {name} has an MTU of {}", link.mtu)))?;
    Ok(Some(link))
}

/// Refuses a bridge that can take no further port.
pub(crate) async fn require_room(host: &Netlink, bridge: &Link) -> Result<(), Error> {
    let ports =
        host.ports(bridge.index).await.map_err(|cause| Error::kernel("count the bridge's ports", &cause))?;
    if ports.len() < MOST_PORTS { Ok(()) } else { Err(full(&bridge.name)) }
}

/// The kernel's "Exchange full", in words.
pub(crate) fn full(name: &str) -> Error {
    let text = format!("the bridge {name} has {MOST_PORTS} ports, and the kernel allows no more on a bridge");
    Error::new(Code::TryAgainLater, text).with_details(format!(
        "end pods of this node that use the network, or use a second bridge; `ip link show master {name}` on the node lists \
         the ports"
    ))
}

/// How the record remembers what was observed.
pub(crate) async fn before(host: &Netlink, observed: Option<&Link>) -> Result<BridgeBefore, Error> {
    match observed {
        None => Ok(BridgeBefore::Absent),
        Some(link) if link.up => Ok(BridgeBefore::Up),
        Some(link) => {
            let ports = host.ports(link.index).await.map_err(|cause| Error::kernel(&link.name, &cause))?;
            Ok(BridgeBefore::Down(ports.iter().map(|port| port.index).collect()))
        }
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
    Ok(link)
}

async fn create(host: &Netlink, attachment: &Attachment, mac: MacAddress) -> Result<Link, Error> {
    let name = &attachment.bridge;
    let failed = |cause: &_| Error::kernel(format!("make the bridge {name}"), cause);
    let created = host
        .create_bridge(&NewBridge {
            name: name.clone(),
            // A MAC of its own from the first moment: otherwise it would be the lowest of the ports' and change with
            // them, and be zero without any (containernetworking/cni#285, containers/netavark#833).
            mac: Some(mac),
            // Another one than the wanted, so that there is a change below.
            mtu: attachment.mtu.map(|mtu| mtu ^ 1),
            // Not before it is closed to the host's services, see below.
            up: false,
            link_local: false,
            options: BridgeOptions {
                most_learned: Some(BridgeOptions::MOST_LEARNED),
                ..port_vlans::options_of_new_bridge(attachment.port_vlans.as_ref())
            },
            ..NewBridge::default()
        })
        .await;
    match created {
        Ok(()) => {}
        // Somebody else has made it at the same moment; then it is his, and ours to use.
        Err(cause) if cause.is_exists() => {
            let theirs = observe(host, attachment).await?;
            return theirs.filter(|link| link.up).ok_or_else(|| failed(&cause));
        }
        Err(cause) => {
            let error = failed(&cause);
            return Err(match &attachment.port_vlans {
                Some(vlans) => port_vlans::not_made(vlans, error, &cause),
                None => error,
            });
        }
    }
    // The host has no business on this network. Pods must not reach what it serves on [::]: neither by a link-local address
    // of the bridge, which it has not got, nor with datagrams to any other of its addresses, which the kernel takes on every
    // link that has IPv6. And it must not take an address from this network's routers. A bridge that was there before is its
    // owner's to configure.
    for (key, value) in [("disable_ipv6", "1"), ("accept_ra", "0")] {
        Sysctl { link: name.clone(), key, value, needed: false }.apply()?;
    }
    let link =
        host.link(name.as_str()).await.map_err(|cause| failed(&cause))?.ok_or_else(|| {
            Error::new(Code::Kernel, format!("make the bridge {name}: it vanished at once"))
        })?;
    // Only a change of the MTU after creation counts as the administrator's; one given in the creating message follows
    // the smallest port (net/bridge/br_if.c, br_mtu_auto_adjust and BROPT_MTU_SET_BY_USER).
    let change = LinkChange { up: Some(true), mtu: attachment.mtu, ..LinkChange::default() };
    host.change_link(link.index, &change).await.map_err(|cause| failed(&cause))?;
    Ok(Link { up: true, mtu: attachment.mtu.unwrap_or(link.mtu), ..link })
}

/// Takes back what an unfinished ADD did to its bridge: a bridge it made goes, one it brought up goes down, unless
/// somebody has come to use it meanwhile, with a port, an address or a link on top.
pub(crate) async fn restore(host: &Netlink, intent: &LinkIntent) -> Result<(), Error> {
    let name = intent.bridge.as_str();
    let failed = |cause| Error::kernel(format!("restore the bridge {name}"), &cause);
    let ports_before: &[u32] = match &intent.bridge_before {
        BridgeBefore::Up => return Ok(()),
        BridgeBefore::Absent => &[],
        BridgeBefore::Down(ports) => ports,
    };
    let Some(bridge) = host.link(name).await.map_err(failed)? else { return Ok(()) };
    let links = host.links().await.map_err(failed)?;
    let new_port = |link: &Link| link.master == Some(bridge.index) && !ports_before.contains(&link.index);
    // A veth's parent index counts in the namespace of its peer, and says nothing here.
    let on_top = |link: &Link| link.parent == Some(bridge.index) && link.parent_namespace.is_none();
    let addressed = host.addresses(bridge.index).await.map_err(failed)?;
    let addressed = addressed.iter().any(|address| !is_link_local(address.address.addr()));
    if addressed || links.iter().any(|link| new_port(link) || on_top(link)) {
        return Ok(());
    }
    if intent.bridge_before != BridgeBefore::Absent {
        let down = LinkChange { up: Some(false), ..LinkChange::default() };
        host.change_link(bridge.index, &down).await.map_err(failed)
    } else if bridge.mac.is_some_and(|mac| mac.to_string() == intent.bridge_mac) {
        host.delete_link(bridge.index).await.map(|_| ()).map_err(failed)
    } else {
        Ok(())
    }
}

/// The kernel gives one to every link that comes up.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// How long a new port may take until it forwards. A bridge that runs the spanning tree protocol holds it back for
/// two forward delays, 30 s by default; without it, it forwards at the first look.
pub(crate) fn forwarding_wait(bridge: &Link) -> Duration {
    const PATIENCE: Duration = Duration::from_secs(10);
    match &bridge.kind {
        LinkKind::Bridge(BridgeOptions { stp: Some(true), forward_delay: Some(delay), .. }) => {
            *delay * 2 + PATIENCE
        }
        _ => PATIENCE,
    }
}

fn describe(link: &Link) -> String {
    match &link.kind {
        LinkKind::Vlan { .. } => "a VLAN interface".into(),
        LinkKind::Veth => "a veth".into(),
        LinkKind::Other(kind) => format!("a link of kind {kind}"),
        LinkKind::None if link.name == "lo" => "the loopback interface".into(),
        LinkKind::None => "a physical interface".into(),
        other => format!("another kind of link ({other:?})"),
    }
}
