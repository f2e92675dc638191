//! OVN's databases and ovn-northd, and in them what octavia-operator has Neutron make.

use crate::addresses::{
    AMPHORA, AMPHORA_MAC, AMPHORA_V6, ROUTER, ROUTER_LENGTHS, ROUTER_V6, TENANT_LENGTHS, TENANT_ROUTER,
    TENANT_ROUTER_V6,
};
use crate::programs::{Daemon, Programs};

/// The socket of both databases.
const SOCKET: &str = "central.sock";
/// As Neutron makes them.
const PROVIDER_MAC: &str = "fa:16:3e:00:01:50";
const TENANT_MAC: &str = "fa:16:3e:be:ba:ee";

/// OVN's central part.
#[derive(Debug)]
pub(crate) struct Central {
    programs: Programs,
    _daemons: [Daemon; 2],
}

impl Central {
    pub(crate) fn start(programs: Programs) -> Self {
        let databases = programs.serve(SOCKET, &[("nb.db", "ovn/ovn-nb"), ("sb.db", "ovn/ovn-sb")]);
        let socket = programs.file(SOCKET);
        let words = [format!("--ovnnb-db=unix:{socket}"), format!("--ovnsb-db=unix:{socket}")];
        let translator = programs.start(None, "ovn-northd", &words.each_ref().map(String::as_str));
        Self { programs, _daemons: [databases, translator] }
    }

    /// Where chassis find the southbound database.
    pub(crate) fn remote(&self) -> String {
        format!("unix:{}", self.programs.file(SOCKET))
    }

    /// The name of the chassis that has the router's outer port; empty while none has it.
    pub(crate) fn gateway(&self) -> String {
        let find = ["--bare", "--columns=chassis", "find", "Port_Binding", "logical_port=cr-lrp-provider"];
        match self.programs.ask("ovn-sbctl", SOCKET, &find) {
            chassis if chassis.is_empty() => chassis,
            chassis => self.programs.ask(
                "ovn-sbctl",
                SOCKET,
                &["--if-exists", "--bare", "get", "Chassis", &chassis, "name"],
            ),
        }
    }

    /// One transaction of commands in the northbound database.
    pub(crate) fn north(&self, commands: &[&[&str]]) -> String {
        self.programs.ask("ovn-nbctl", SOCKET, &commands.join(&"--"))
    }

    /// Names of the chassis that have registered.
    pub(crate) fn chassis(&self) -> Vec<String> {
        let names = self.programs.ask("ovn-sbctl", SOCKET, &["--bare", "--columns=name", "list", "chassis"]);
        names.split_whitespace().map(ToOwned::to_owned).collect()
    }

    /// octavia-provider-net, lb-mgmt-net and octavia-link-router between them, without address translation. The first gateway has
    /// the router's outer port as long as it lives.
    pub(crate) fn make_networks(&self, gateways: [&str; 2]) {
        let [provider, tenant] = [
            [PROVIDER_MAC.to_owned(), with(ROUTER, ROUTER_LENGTHS[0]), with(ROUTER_V6, ROUTER_LENGTHS[1])],
            [
                TENANT_MAC.to_owned(),
                with(TENANT_ROUTER, TENANT_LENGTHS[0]),
                with(TENANT_ROUTER_V6, TENANT_LENGTHS[1]),
            ],
        ];
        let [provider, tenant] = [&provider, &tenant].map(|words| words.each_ref().map(String::as_str));
        let router = "octavia-link-router";
        self.north(&[
            &["ls-add", "octavia-provider-net"],
            &["lsp-add", "octavia-provider-net", "localnet"],
            &["lsp-set-type", "localnet", "localnet"],
            &["lsp-set-addresses", "localnet", "unknown"],
            &["lsp-set-options", "localnet", "network_name=octavia"],
            &["lr-add", router],
            // As Neutron sets them.
            &[
                "set",
                "Logical_Router",
                router,
                "options:always_learn_from_arp_request=false",
                "options:dynamic_neigh_routers=true",
            ],
            &[&["lrp-add", router, "lrp-provider"], &provider[..]].concat(),
            &["lrp-set-gateway-chassis", "lrp-provider", gateways[0], "20"],
            &["lrp-set-gateway-chassis", "lrp-provider", gateways[1], "10"],
            &["lsp-add", "octavia-provider-net", "to-provider"],
            &["lsp-set-type", "to-provider", "router"],
            &["lsp-set-addresses", "to-provider", "router"],
            &["lsp-set-options", "to-provider", "router-port=lrp-provider"],
            &["ls-add", "lb-mgmt-net"],
            &[&["lrp-add", router, "lrp-tenant"], &tenant[..]].concat(),
            &["lsp-add", "lb-mgmt-net", "lb-mgmt-router-port"],
            &["lsp-set-type", "lb-mgmt-router-port", "router"],
            &["lsp-set-addresses", "lb-mgmt-router-port", "router"],
            &["lsp-set-options", "lb-mgmt-router-port", "router-port=lrp-tenant"],
            &["lsp-add", "lb-mgmt-net", "amphora"],
            &["lsp-set-addresses", "amphora", &format!("{AMPHORA_MAC} {AMPHORA} {AMPHORA_V6}")],
        ]);
    }

    /// Waits until all chassis have what is in the northbound database, and the amphora's port is bound.
    pub(crate) fn wait(&self) {
        self.north(&[&["--wait=hv", "sync"]]);
        self.north(&[&["wait-until", "Logical_Switch_Port", "amphora", "up=true"]]);
    }
}

fn with(address: &str, length: u8) -> String {
    format!("{address}/{length}")
}
