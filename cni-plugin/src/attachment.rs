//! An attachment as it shall be: every value of the configuration and the environment checked, nothing done yet.
//!
//! What can be known to be wrong without asking the kernel or a pool is refused here, by one error that names the
//! field, its value and what would be right.

mod port_vlans;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use octavia_bridge_ipam::conf::{FlatFile, Ipam};
use octavia_bridge_ipam::document::{FieldError, Object};
use octavia_bridge_ipam::range::Range;
use octavia_bridge_ipam::request::{Choice, Owner, Reach, Request, RequestedAddress};
use octavia_bridge_netlink::{MacAddress, validate_link_name};

use crate::config::{Document, Essentials, IpamKind, NetConf};
use crate::log;
use crate::protocol::args::Args;
use crate::protocol::result::Dns;
use crate::protocol::{CniResult, Code, Environment, Error, Verb, Version};
use crate::store::Store;

pub(crate) use port_vlans::PortVlans;

/// Bounds of an Ethernet MTU in bytes: RFC 791 demands 68, RFC 8200 1280; the kernel's links end at 65535.
const MTU_BOUNDS: std::ops::RangeInclusive<u32> = 68..=65535;
const MTU_IPV6_MIN: u32 = 1280;
/// How messages name the variable's part.
const CNI_ARGS_MAC: &str = "CNI_ARGS MAC";

/// One pod's interface on the bridge.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) version: Version,
    pub(crate) data_dir: PathBuf,
    pub(crate) owner: Owner,
    /// `K8S_POD_UID`.
    pub(crate) pod_uid: Option<String>,
    /// Path of the pod's namespace, as the runtime wrote it.
    pub(crate) netns: String,
    pub(crate) bridge: String,
    pub(crate) mode: BridgeMode,
    /// `None`: the bridge's.
    pub(crate) mtu: Option<u32>,
    /// `None`: whatever the bridge gives its ports.
    pub(crate) port_vlans: Option<PortVlans>,
    pub(crate) mac: MacSource,
    pub(crate) announce: bool,
    /// `disableContainerInterface`: the pod brings its end up itself.
    pub(crate) leave_down: bool,
    pub(crate) addressing: Addressing,
    /// Replaces the IPAM's when it says anything.
    pub(crate) dns: Dns,
    /// What earlier plugins of a chain did.
    pub(crate) previous: Option<CniResult>,
    /// Harmless oddities of the configuration, for the log.
    pub(crate) warnings: Vec<String>,
}

/// Who looks after the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BridgeMode {
    /// Made and brought up when missing.
    Managed,
    /// Somebody else's: it must be there, and only ports are ours.
    Unmanaged,
}

/// Where the pod's MAC comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MacSource {
    FromAddress,
    Random,
    Given(MacAddress),
}

/// Where the pod's addresses come from.
#[derive(Debug)]
pub(crate) enum Addressing {
    None,
    Pool(Box<PoolAddressing>),
    Delegated(String),
}

/// The built-in IPAM's part of a configuration, and the claim it makes.
#[derive(Debug)]
pub(crate) struct PoolAddressing {
    pub(crate) ipam: Ipam,
    pub(crate) request: Request,
    /// `K8S_POD_UID`.
    pub(crate) pod_uid: Option<String>,
    pub(crate) store: Store,
}

impl Attachment {
    pub(crate) fn new(environment: &Environment, document: &Document) -> Result<Self, Error> {
        let version = document.version()?;
        let mut conf = NetConf::read(document)?;
        conf.allow_what_was_given(environment.verb);
        // CNI_ARGS can ask for a gateway of static addresses; nothing here needs one.
        let args = Args::parse(environment.args()?, &["GATEWAY"])?;
        if let Some(refusal) = conf.refusals {
            return Err(refusal);
        }
        // What CHECK asks about was attached, perhaps by an earlier version, which let it pass.
        if let (Some(error), true) = (conf.near_miss.take(), environment.verb != Verb::Check) {
            return Err(error.into());
        }
        if let (true, [key, ..]) = (conf.strict, conf.unknown.as_slice()) {
            let remedy = "unknown key; remove it, or remove \"strict\": true";
            return Err(FieldError::missing(key, remedy).into());
        }
        let ignored =
            |key: &String| FieldError::missing(key, "unknown key, ignored; check the spelling").to_string();
        let mut warnings: Vec<String> = conf.unknown.iter().map(ignored).collect();

        let owner = Owner {
            container_id: environment.container_id.clone(),
            ifname: environment.ifname.clone(),
            pod: args.pod.clone(),
        };
        let addressing = addressing(&mut conf, &args, &owner)?;
        if let Addressing::Pool(pool) = &addressing {
            warnings.extend(pool.ipam.warnings.iter().cloned());
        }
        let previous = conf.prev_result.map(|value| CniResult::parse(value, version)).transpose();
        let previous = previous.map_err(|cause| {
            Error::new(Code::Decode, format!("prevResult: no result of CNI {}: {cause}", version.as_str()))
        })?;
        let mtu = mtu(conf.mtu)?;
        // What a delegated plugin will give is looked at when it is known.
        if !matches!(addressing, Addressing::Delegated(_)) {
            let known = addressing.known_addresses();
            check_mtu_for(mtu, &known)?;
            CniResult::fits(&with_previous(previous.as_ref(), known), version)?;
        }
        Ok(Self {
            network: conf.essentials.name,
            version,
            data_dir: conf.essentials.data_dir,
            owner,
            pod_uid: args.pod_uid,
            netns: environment.netns.clone().unwrap_or_default(),
            bridge: bridge(conf.bridge)?,
            mode: bridge_mode(conf.bridge_mode)?,
            mtu,
            port_vlans: PortVlans::check(&conf.port_vlans)?,
            mac: mac(&conf.asked_macs, args.mac.as_deref(), conf.mac)?,
            announce: conf.announce.unwrap_or(true),
            leave_down: conf.disable_container_interface,
            addressing,
            dns: conf.dns,
            previous,
            warnings,
        })
    }
}

/// Who gives the addresses, and what is asked of them.
fn addressing(conf: &mut NetConf<'_>, args: &Args, owner: &Owner) -> Result<Addressing, Error> {
    let asked = asked_ips(args, conf);
    let addressing = match (&conf.essentials.ipam, conf.ipam.take()) {
        (IpamKind::BuiltIn, Some(ipam)) => {
            let pool =
                PoolAddressing::new(ipam, &conf.essentials, conf.strict, owner.clone(), &asked, conf.reach)?;
            Addressing::Pool(Box::new(PoolAddressing { pod_uid: args.pod_uid.clone(), ..pool }))
        }
        // It reads the requests itself: it gets our stdin and environment.
        (IpamKind::Delegated(program), _) => Addressing::Delegated(program.clone()),
        (IpamKind::None | IpamKind::BuiltIn, ipam) => {
            if let Some((field, text)) = asked.first() {
                return Err(wrong(
                    field,
                    text,
                    "asks for an address on a network without ipam; add an ipam block",
                ));
            }
            if let Some(key) = ipam.iter().flat_map(Object::unknown).find(|key| !key.ends_with(".type")) {
                let remedy =
                    format!("is missing, and {key} needs it; write \"whereabouts\", or leave ipam empty");
                return Err(FieldError::missing("ipam.type", remedy).into());
            }
            Addressing::None
        }
    };
    if conf.disable_container_interface && !matches!(addressing, Addressing::None) {
        let remedy = "leaves the interface down, where no ipam can give it an address; remove one of the two";
        return Err(FieldError::json("disableContainerInterface", &true.into(), remedy).into());
    }
    Ok(addressing)
}

impl PoolAddressing {
    /// Checks the `ipam` block and forms the claim. `asked` are requested addresses with the field that asks, and `reach` is
    /// where they may lie.
    pub(crate) fn new(
        mut ipam: Object<'_>,
        essentials: &Essentials,
        strict: bool,
        owner: Owner,
        asked: &[(String, String)],
        reach: Reach,
    ) -> Result<Self, Error> {
        let file = FlatFile::of(&mut ipam)?;
        let ipam = Ipam::parse_over(ipam, file.as_ref(), strict)?;
        if let (Some(path), true) = (&ipam.log_file, file.is_some()) {
            log::also_to_file(path, ipam.log_level.as_deref());
        }
        for field in &ipam.completed {
            tracing::debug!("taken from the flat file {field}");
        }
        let mut requested = Vec::new();
        for (field, text) in asked {
            requested.push(RequestedAddress::parse(field.as_str(), text)?);
        }
        let request = ipam.request(owner, &requested, reach)?;
        let store = Store::of(ipam.datastore, essentials);
        Ok(Self { ipam, request, pod_uid: None, store })
    }

    /// Keeps the bridge's own addresses from the pod.
    ///
    /// # Errors
    /// Code 102 for one that was asked for by name.
    pub(crate) fn spare(&mut self, bridge: &str, addresses: &[IpAddr]) -> Result<(), Error> {
        for want in &self.request.wants {
            match want.choice {
                Choice::Exactly(address) if addresses.contains(&address) => {
                    let text = format!("{address} is an address of the bridge {bridge}; ask for another one");
                    return Err(Error::new(Code::AddressHeld, text));
                }
                _ => {}
            }
        }
        let wanted = |address: &&IpAddr| self.request.wants.iter().any(|want| want.subnet.contains(*address));
        let spared: Vec<IpAddr> = addresses.iter().filter(wanted).copied().collect();
        self.request.reserved.extend(spared);
        Ok(())
    }

    /// See [`Addressing::known_addresses`].
    pub(crate) fn known_addresses(&self) -> Vec<IpNet> {
        let dynamic = self.ipam.ranges.iter().map(Range::subnet);
        dynamic.chain(self.ipam.addresses.iter().map(|fixed| fixed.address)).collect()
    }
}

impl Addressing {
    /// What a delegated plugin will give is not known before it is asked.
    pub(crate) fn may_give_ipv6(&self) -> bool {
        matches!(self, Self::Delegated(_))
            || self.known_addresses().iter().any(|address| matches!(address, IpNet::V6(_)))
    }

    /// One address per address to be, right in family and number, before any is chosen.
    pub(crate) fn known_addresses(&self) -> Vec<IpNet> {
        match self {
            Self::None | Self::Delegated(_) => Vec::new(),
            Self::Pool(pool) => pool.known_addresses(),
        }
    }
}

/// The addresses of the whole result: what earlier plugins of the chain gave, then ours.
pub(crate) fn with_previous(previous: Option<&CniResult>, own: Vec<IpNet>) -> Vec<IpNet> {
    previous.iter().flat_map(|previous| previous.ips.iter().map(|ip| ip.address)).chain(own).collect()
}

/// The strongest request wins whole: `runtimeConfig` over `args.cni` over `CNI_ARGS`. Multus sends the same
/// addresses in the first and the last.
pub(crate) fn asked_ips(args: &Args, conf: &NetConf<'_>) -> Vec<(String, String)> {
    match conf.asked_ips.iter().rev().find(|(_, ips)| !ips.is_empty()) {
        Some((field, ips)) => {
            ips.iter().enumerate().map(|(n, ip)| (format!("{field}[{n}]"), (*ip).to_owned())).collect()
        }
        None => args.ips.iter().map(|ip| ("CNI_ARGS IP".to_owned(), ip.clone())).collect(),
    }
}

fn bridge(written: Option<&str>) -> Result<String, Error> {
    // The reference plugin's default, which a configuration without the key expects.
    let name = written.unwrap_or("cni0");
    validate_link_name(name).map_err(|_| {
        wrong(
            "bridge",
            name,
            "is not an interface name; write 1 to 15 bytes without '/', ':', '%' and spaces, such as octbr",
        )
    })?;
    Ok(name.to_owned())
}

fn bridge_mode(written: Option<&str>) -> Result<BridgeMode, Error> {
    match written {
        None | Some("managed") => Ok(BridgeMode::Managed),
        Some("unmanaged") => Ok(BridgeMode::Unmanaged),
        Some(other) => Err(wrong("bridgeMode", other, "must be \"managed\" or \"unmanaged\"")),
    }
}

fn mtu(written: Option<i64>) -> Result<Option<u32>, Error> {
    match written {
        None | Some(0) => Ok(None),
        Some(mtu) => {
            u32::try_from(mtu).ok().filter(|mtu| MTU_BOUNDS.contains(mtu)).map(Some).ok_or_else(|| {
                let remedy = format!(
                    "must be {} to {} bytes, or absent to take the bridge's",
                    MTU_BOUNDS.start(),
                    MTU_BOUNDS.end()
                );
                FieldError::json("mtu", &mtu.into(), remedy).into()
            })
        }
    }
}

/// A link below 1280 bytes carries no IPv6, and the kernel says so only by dropping the address.
pub(crate) fn check_mtu_for(mtu: Option<u32>, addresses: &[IpNet]) -> Result<(), Error> {
    match (mtu, addresses.iter().find(|address| matches!(address, IpNet::V6(_)))) {
        (Some(mtu), Some(address)) if mtu < MTU_IPV6_MIN => {
            let remedy = format!("must be at least {MTU_IPV6_MIN} bytes for the IPv6 addresses of {address}");
            Err(FieldError::json("mtu", &mtu.into(), remedy).into())
        }
        _ => Ok(()),
    }
}

fn mac(asked: &[(&'static str, &str)], args: Option<&str>, conf: Option<&str>) -> Result<MacSource, Error> {
    let (field, text) = match (asked.last(), args, conf) {
        (Some((field, text)), _, _) => (*field, *text),
        (None, Some(text), _) => (CNI_ARGS_MAC, text),
        (None, None, None | Some("" | "from-address")) => return Ok(MacSource::FromAddress),
        (None, None, Some("random")) => return Ok(MacSource::Random),
        (None, None, Some(text)) => ("mac", text),
    };
    let refuse = |remedy: &str| match wrong(field, text, remedy) {
        error if field == CNI_ARGS_MAC => Error { code: Code::InvalidEnvironment, ..error },
        error => error,
    };
    let mac: MacAddress = text
        .parse()
        .map_err(|_| refuse("is not a MAC address; write six octets such as 02:00:ac:17:00:05"))?;
    if mac.is_multicast() || mac.is_zero() {
        return Err(refuse(
            "is a multicast or zero MAC address, which no interface may have; write one such as 02:00:ac:17:00:05",
        ));
    }
    Ok(MacSource::Given(mac))
}

fn wrong(field: &str, value: &str, remedy: &str) -> Error {
    FieldError::text(field, value, remedy).into()
}
