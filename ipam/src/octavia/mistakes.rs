//! The mistakes of a definition, each by path, value and remedy.

use ipnet::IpNet;

use super::growth::Growth;
use super::operator::{POOL_LEN, Reading, Refusal};
use super::review::{Capacity, Definition, Finding, Level, Surroundings};
use super::{plugin, routes};
use crate::address::{bits, from_bits, is_host_of};
use crate::conf::SERVED_TYPES;
use crate::document::{FieldError, Object, looks_like};
use crate::range::Range;

/// What the operators name the pods' interface and the physical network by.
const NAME: &str = "octavia";
/// Addresses behind `range_end` that the operator divides into Neutron's pool and the predictable addresses.
const BEHIND_END: u128 = 2 * POOL_LEN;

/// What is known when mistakes are looked for.
pub(super) struct Known<'a> {
    pub(super) definition: &'a Definition,
    pub(super) surroundings: &'a Surroundings,
    pub(super) reading: &'a Reading,
    pub(super) pods: Option<&'a Range>,
    pub(super) capacity: Option<Capacity>,
    pub(super) growth: &'a Growth,
    /// Why the plugin refuses the `ipam` block.
    pub(super) refused: Option<FieldError>,
}

/// Findings in the order in which they are made.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn error(&mut self, field: FieldError) {
        self.0.push(Finding { level: Level::Error, field });
    }

    pub(super) fn warning(&mut self, field: FieldError) {
        self.0.push(Finding { level: Level::Warning, field });
    }

    fn has(&self, field: &str) -> bool {
        self.0.iter().any(|finding| finding.field.field == field)
    }

    /// Whether there is one about a key of the object at `path`.
    pub(super) fn has_below(&self, path: &str) -> bool {
        self.0.iter().any(|finding| finding.field.field.starts_with(path))
    }
}

/// All of them, errors first.
pub(super) fn find(root: &mut Object<'_>, known: Known<'_>) -> Vec<Finding> {
    let mut found = Findings::default();
    object(known.definition, &mut found);
    if let Some(plugins) = root.value("plugins") {
        let remedy = "is a list of plugins, of which octavia-operator reads nothing; write the keys of the one plugin at the top level";
        found.error(FieldError::json("plugins", plugins, remedy));
    } else {
        plugin::check(root, &known, &mut found);
        if let Some(Refusal::Unreadable(error)) = &known.reading.refusal {
            found.error(error.clone());
        } else {
            range(root, &known, &mut found);
            routes::check(root, &known, &mut found);
        }
        if let Some(error) = known.refused.filter(|error| !found.has(&error.field)) {
            found.error(error);
        }
        capacity(known.capacity, known.surroundings, &mut found);
        growth(known.growth, known.surroundings, &mut found);
    }
    let mut findings = found.0;
    findings.sort_by_key(|finding| finding.level == Level::Warning);
    findings
}

/// The object around the configuration.
fn object(definition: &Definition, found: &mut Findings) {
    if !definition.name.is_empty() && definition.name != NAME {
        let remedy = "names the pods' interface, which Octavia's containers expect as \"octavia\"; call the definition octavia";
        found.error(FieldError::text("metadata.name", &definition.name, remedy));
    }
    if definition.owners.iter().any(|kind| kind == "OVNController") {
        let remedy = "owns this definition, because nicMappings named it before it existed, and overwrites it; remove octavia from \
                      nicMappings, delete the definition, apply your own, and add the mapping again";
        found.error(FieldError::text("metadata.ownerReferences", "OVNController", remedy));
    }
}

/// `ipam.type`, by which pods get their addresses.
fn assigner(ipam: &mut Object<'_>, found: &mut Findings) {
    let path = ipam.path_of("type");
    // Another value than a text is what the plugin refuses.
    let Ok(kind) = ipam.string("type") else { return };
    let kind = kind.unwrap_or_default();
    if kind.is_empty() {
        found.error(FieldError::missing(path, "is missing, so pods get no address; write whereabouts"));
    } else if let Some(meant) = SERVED_TYPES.iter().find(|assigner| looks_like(kind, assigner)) {
        if kind != *meant {
            found.error(FieldError::text(path, kind, format!("is not a plugin; write {meant}")));
        }
    } else {
        let remedy = "assigns addresses by rules of its own; write whereabouts, by which no two nodes assign the same and pods keep to \
                      range_start and range_end";
        found.warning(FieldError::text(path, kind, remedy));
    }
}

/// `range`, `range_end`, and what the operator does not read.
fn range(root: &mut Object<'_>, known: &Known<'_>, found: &mut Findings) {
    let Ok(ipam) = root.object("ipam") else { return };
    let Some(mut ipam) = ipam else {
        found.error(FieldError::missing(
            "ipam",
            "is missing; write type, range, range_start, range_end and routes",
        ));
        return;
    };
    assigner(&mut ipam, found);
    if ipam.present("gateway") {
        let remedy = "makes the operators ask for a default route through it for each pod; remove it";
        found.warning(FieldError::missing(ipam.path_of("gateway"), remedy));
    }
    let Some(net) = known.reading.provider else {
        if ipam.list("ipRanges").is_ok_and(|ranges| !ranges.is_empty()) {
            let remedy = "is not read by octavia-operator; write the amphora network's family into range, range_start and range_end";
            found.error(FieldError::missing(ipam.path_of("ipRanges"), remedy));
        } else {
            found.error(FieldError::missing(
                ipam.path_of("range"),
                "is missing; write a subnet like 172.23.0.0/24",
            ));
        }
        return;
    };
    if net.addr() != net.network() {
        let remedy =
            format!("has host bits, which octavia-operator passes to Neutron; write {}", net.trunc());
        found.warning(FieldError::text(ipam.path_of("range"), &net.to_string(), remedy));
    }
    if let Some(field) = range_end(&net, known, &ipam.path_of("range_end")) {
        found.error(field);
    }
}

fn range_end(net: &IpNet, known: &Known<'_>, path: &str) -> Option<FieldError> {
    let reading = known.reading;
    let most = bits(net.broadcast()).checked_sub(BEHIND_END + 1).map(|most| from_bits(most, net));
    let most = most.filter(|most| is_host_of(net, *most));
    let Some(end) = reading.range_end else {
        let example = most.map_or("an address".to_owned(), |most| format!("an address up to {most}"));
        let remedy = format!("is missing; octavia-operator puts Neutron's pool behind it: write {example}");
        return Some(FieldError::missing(path, remedy));
    };
    if !is_host_of(net, end) {
        let remedy =
            format!("is not a host of {}; write one, {BEHIND_END} addresses before its end", net.trunc());
        return Some(FieldError::text(path, &end.to_string(), remedy));
    }
    if reading.predictable.is_some_and(|pool| is_host_of(net, pool.last)) {
        return None;
    }
    let remedy = match most {
        Some(most) => format!(
            "leaves less than the {BEHIND_END} addresses that octavia-operator takes behind it; write {most} or less, and lower \
             range_start if pods need more addresses"
        ),
        None => {
            let net = net.trunc();
            format!(
                "leaves less than the {BEHIND_END} addresses that octavia-operator takes behind it; {net} is too small"
            )
        }
    };
    Some(FieldError::text(path, &end.to_string(), remedy))
}

/// More nodes than addresses.
fn capacity(capacity: Option<Capacity>, surroundings: &Surroundings, found: &mut Findings) {
    let Some(capacity) = capacity else { return };
    let is_certain = surroundings.nodes.is_some();
    let Some(nodes) = surroundings.nodes.or(surroundings.cluster_nodes) else { return };
    let suffix = if is_certain { "" } else { " (of the whole cluster; --nodes says how many run Octavia)" };
    let mut fields = Vec::new();
    if nodes > capacity.nodes_by_predictable {
        let remedy = format!(
            "has predictable addresses behind it for {} nodes, not for {nodes}{suffix}; select fewer nodes by Octavia's nodeSelector",
            capacity.nodes_by_predictable
        );
        fields.push(FieldError::missing("ipam.range_end", remedy));
    }
    if nodes > capacity.nodes_by_pods {
        let remedy = format!(
            "leaves {} addresses for pods, enough for {} nodes, not for {nodes}{suffix}; lower range_start, never raise range_end",
            capacity.pods, capacity.nodes_by_pods
        );
        fields.push(FieldError::missing("ipam.range_start", remedy));
    }
    for field in fields {
        if is_certain {
            found.error(field);
        } else {
            found.warning(field);
        }
    }
}

fn growth(growth: &Growth, surroundings: &Surroundings, found: &mut Findings) {
    if !growth.exclude.is_empty() {
        let nets = growth.exclude.iter().map(|net| format!("\"{net}\"")).collect::<Vec<_>>().join(", ");
        let remedy = format!(
            "does not have addresses that Neutron or health managers have used since before the range grew; add {nets}, or set \
             range_end back"
        );
        found.error(FieldError::missing("ipam.exclude", remedy));
    }
    if let Some(ends) = growth.doubt {
        let hint = match surroundings.former_range_end {
            Some(_) => {
                "; --former-range-end does not explain all of them: it is wrong, or the range grew more than once"
            }
            None => ": name it by --former-range-end",
        };
        let remedy = format!(
            "may lack addresses that Neutron has used since before the range grew; range_end was between {} and {} then, as far as \
             the predictable addresses in use tell{hint}",
            ends.first, ends.last
        );
        found.warning(FieldError::missing("ipam.exclude", remedy));
    }
}
