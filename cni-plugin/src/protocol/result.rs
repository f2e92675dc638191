//! Results of ADD: one shape inside, four layouts outside.
//!
//! The inside shape is that of CNI 1.1.0. Older layouts are made at the moment of printing, newer and older ones
//! are read where a previous plugin (`prevResult`) or a delegated IPAM plugin hands us theirs.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::{Code, Error, Version};

/// What an attachment consists of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct CniResult {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) ips: Vec<Ip>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) routes: Vec<Route>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) dns: Dns,
}

/// A link that the attachment made or uses. `sandbox` is the namespace path for links inside the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket_path: Option<String>,
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub(crate) pci_id: Option<String>,
}

/// An address with its prefix length, and the index into `interfaces` it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Ip {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<usize>,
    pub(crate) address: IpNet,
    #[serde(default, deserialize_with = "empty_is_absent", skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
}

/// A route of the container. MTU in bytes, `advmss` in bytes, `priority` is the kernel's metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Route {
    pub(crate) dst: IpNet,
    #[serde(default, deserialize_with = "empty_is_absent", skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<u8>,
}

/// Name servers and search rules, reported and never applied: the runtime writes resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Dns {
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub(crate) nameservers: Vec<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub(crate) domain: String,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub(crate) options: Vec<String>,
}

impl Dns {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Go writes a nil slice as `null`; it means the same as absence.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Go writes a nil `net.IP` as `""`.
fn empty_is_absent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

impl CniResult {
    /// Reads a result in the layout of `version`. `null` is an empty result, as the reference library takes it.
    pub(crate) fn parse(value: &Value, version: Version) -> Result<Self, serde_json::Error> {
        if value.is_null() {
            return Ok(Self::default());
        }
        if !version.is_single_address() {
            return Self::deserialize(value);
        }
        #[derive(Deserialize)]
        #[serde(expecting = "an object")]
        struct Family {
            ip: IpNet,
            #[serde(default, deserialize_with = "empty_is_absent")]
            gateway: Option<IpAddr>,
            #[serde(default, deserialize_with = "nullable")]
            routes: Vec<Route>,
        }
        #[derive(Deserialize)]
        #[serde(expecting = "an object")]
        struct Legacy {
            ip4: Option<Family>,
            ip6: Option<Family>,
            #[serde(default, deserialize_with = "nullable")]
            dns: Dns,
        }
        let legacy = Legacy::deserialize(value)?;
        let mut result = Self { dns: legacy.dns, ..Self::default() };
        for family in [legacy.ip4, legacy.ip6].into_iter().flatten() {
            result.ips.push(Ip { interface: None, address: family.ip, gateway: family.gateway });
            result.routes.extend(family.routes);
        }
        Ok(result)
    }

    /// Appends what this plugin did to what earlier plugins of the chain did, as section 3 of the specification
    /// demands ("pass through or modify"). Indexes into `interfaces` move along.
    pub(crate) fn after(self, previous: Self) -> Self {
        let shift = previous.interfaces.len();
        let mut all = previous;
        all.interfaces.extend(self.interfaces);
        all.ips.extend(
            self.ips.into_iter().map(|ip| Ip { interface: ip.interface.map(|index| index + shift), ..ip }),
        );
        all.routes.extend(self.routes);
        if !self.dns.is_empty() {
            all.dns = self.dns;
        }
        all
    }

    /// Whether `addresses` fit the layout of `version`: 0.1.0 and 0.2.0 hold exactly one or none per family, and at
    /// least one at all. Asked before anything is created, since the reference plugin builds first and fails then.
    pub(crate) fn fits(addresses: &[IpNet], version: Version) -> Result<(), Error> {
        if !version.is_single_address() {
            return Ok(());
        }
        let v4 = addresses.iter().filter(|address| matches!(address, IpNet::V4(_))).count();
        let v6 = addresses.len() - v4;
        let problem = if addresses.is_empty() {
            "a result without any address"
        } else if v4 > 1 || v6 > 1 {
            "more than one address per family"
        } else {
            return Ok(());
        };
        Err(Error::new(
            Code::IncompatibleVersion,
            format!("cniVersion {:?} cannot express {problem}; write \"0.3.1\" or newer", version.as_str()),
        ))
    }

    /// The document of `version`. Call [`Self::fits`] first for 0.1.0 and 0.2.0.
    pub(crate) fn render(&self, version: Version) -> Value {
        let mut document = Map::new();
        document.insert("cniVersion".into(), version.as_str().into());
        if version.is_single_address() {
            self.render_families(&mut document);
        } else {
            self.render_lists(&mut document, version);
        }
        // Before 1.0.0 the key is always there; NetworkAttachmentDefinition clients rely on nothing else.
        if version.names_ip_family() || !self.dns.is_empty() {
            document.insert("dns".into(), json!(self.dns));
        }
        Value::Object(document)
    }

    fn render_lists(&self, document: &mut Map<String, Value>, version: Version) {
        if !self.interfaces.is_empty() {
            let interfaces = self.interfaces.iter().map(|interface| {
                if version.has_interface_mtu() {
                    json!(interface)
                } else {
                    json!(Interface { mtu: None, socket_path: None, pci_id: None, ..interface.clone() })
                }
            });
            document.insert("interfaces".into(), interfaces.collect());
        }
        if !self.ips.is_empty() {
            let ips = self.ips.iter().map(|ip| {
                let mut value = json!(ip);
                if version.names_ip_family() {
                    value["version"] = if ip.address.addr().is_ipv4() { "4" } else { "6" }.into();
                }
                value
            });
            document.insert("ips".into(), ips.collect());
        }
        if !self.routes.is_empty() {
            // The specification adds mtu, priority and so on in 1.1.0; the reference library prints them for every
            // version from 0.3.0 on, and runtimes pass them through.
            document.insert("routes".into(), json!(self.routes));
        }
    }

    fn render_families(&self, document: &mut Map<String, Value>) {
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4) else { continue };
            let mut family = json!({ "ip": ip.address });
            if let Some(gateway) = ip.gateway {
                family["gateway"] = json!(gateway);
            }
            let routes: Vec<_> = self
                .routes
                .iter()
                .filter(|route| route.dst.addr().is_ipv4() == v4)
                .map(|route| match route.gw {
                    Some(gw) => json!({ "dst": route.dst, "gw": gw }),
                    None => json!({ "dst": route.dst }),
                })
                .collect();
            if !routes.is_empty() {
                family["routes"] = routes.into();
            }
            document.insert(key.into(), family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> CniResult {
        CniResult {
            interfaces: vec![Interface { name: "net1".into(), mtu: Some(1500), ..Interface::default() }],
            ips: vec![
                Ip { interface: Some(0), address: "172.23.0.30/24".parse().unwrap(), gateway: None },
                Ip {
                    interface: Some(0),
                    address: "fd00::1/64".parse().unwrap(),
                    gateway: Some("fd00::f".parse().unwrap()),
                },
            ],
            routes: vec![Route {
                dst: "172.24.0.0/16".parse().unwrap(),
                gw: Some("172.23.0.150".parse().unwrap()),
                mtu: Some(1400),
                advmss: None,
                priority: Some(77),
                table: None,
                scope: None,
            }],
            dns: Dns::default(),
        }
    }

    #[test]
    fn each_layout_is_the_one_of_its_version() {
        let legacy = sample().render(Version::V0_2_0);
        assert_eq!(
            legacy,
            json!({"cniVersion": "0.2.0",
                   "ip4": {"ip": "172.23.0.30/24", "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}]},
                   "ip6": {"ip": "fd00::1/64", "gateway": "fd00::f"},
                   "dns": {}})
        );
        let third = sample().render(Version::V0_3_1);
        assert_eq!(third["ips"][0]["version"], "4");
        assert_eq!(third["ips"][1]["version"], "6");
        assert_eq!(third["dns"], json!({}));
        assert_eq!(third["interfaces"][0], json!({"name": "net1"}));
        assert_eq!(third["routes"][0]["priority"], 77);
        let newest = sample().render(Version::V1_1_0);
        assert!(newest["ips"][0].get("version").is_none());
        assert!(newest.get("dns").is_none());
        assert_eq!(newest["interfaces"][0]["mtu"], 1500);
    }

    #[test]
    fn what_is_rendered_reads_back() {
        for version in Version::ALL {
            let read = CniResult::parse(&sample().render(version), version).unwrap();
            let addresses: Vec<_> = read.ips.iter().map(|ip| ip.address).collect();
            assert_eq!(
                addresses,
                sample().ips.iter().map(|ip| ip.address).collect::<Vec<_>>(),
                "{version:?}"
            );
        }
        assert_eq!(CniResult::parse(&Value::Null, Version::V1_0_0).unwrap(), CniResult::default());
    }

    #[test]
    fn nulls_and_empty_strings_are_absent_as_go_writes_them() {
        let value = json!({"interfaces": null, "ips": [{"address": "10.0.0.1/8", "gateway": ""}], "routes": null,
                           "dns": {"nameservers": null}});
        let read = CniResult::parse(&value, Version::V1_0_0).unwrap();
        assert_eq!(read.ips[0].gateway, None);
        assert!(read.dns.is_empty());
    }

    #[test]
    fn old_versions_refuse_what_they_cannot_say() {
        let v4: IpNet = "10.0.0.1/8".parse().unwrap();
        let v6: IpNet = "fd00::1/64".parse().unwrap();
        assert!(CniResult::fits(&[v4, v6], Version::V0_1_0).is_ok());
        assert!(CniResult::fits(&[], Version::V0_2_0).is_err());
        assert!(CniResult::fits(&[v4, v4], Version::V0_2_0).is_err());
        assert!(CniResult::fits(&[], Version::V0_3_0).is_ok());
    }

    #[test]
    fn a_chain_keeps_what_came_before() {
        let merged = sample().after(sample());
        assert_eq!(merged.interfaces.len(), 2);
        assert_eq!(merged.ips[0].interface, Some(0));
        assert_eq!(merged.ips[2].interface, Some(1));
    }
}
