//! The addresses of the documentation, and those of its IPv6 sample with the router behind the pools.

/// octavia-link-router on octavia-provider-net: `routes[].gw`.
pub(crate) const ROUTER: &str = "172.23.0.150";
pub(crate) const ROUTER_V6: &str = "fd00:eeee::150";
/// Prefix lengths of the provider network in both families.
pub(crate) const ROUTER_LENGTHS: [u8; 2] = [24, 64];
/// lb-mgmt-router-port on lb-mgmt-net.
pub(crate) const TENANT_ROUTER: &str = "172.24.1.89";
pub(crate) const TENANT_ROUTER_V6: &str = "fd00:ffff::1:89";
/// Prefix lengths of lb-mgmt-net in both families.
pub(crate) const TENANT_LENGTHS: [u8; 2] = [16, 64];
/// The amphora on lb-mgmt-net, with a MAC address as Neutron gives it.
pub(crate) const AMPHORA_MAC: &str = "fa:16:3e:00:03:17";
pub(crate) const AMPHORA: &str = "172.24.3.17";
pub(crate) const AMPHORA_V6: &str = "fd00:ffff::3:17";
