//! The fields of an `ipam` block that are not about addresses, and those that have no effect here.

use std::path::PathBuf;

use crate::document::{FieldError, Object};

use super::{ConfError, Datastore, Dns, FlatFile, places};

/// Fields of whereabouts that are accepted and change nothing, each with the reason why that is safe.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("type", "which plugin serves the block was decided before"),
    ("name", "whereabouts overwrites it, too"),
    ("podname", "whereabouts overwrites it, too"),
    ("podnamespace", "whereabouts overwrites it, too"),
    ("kubernetes", "no kubeconfig on the host: the agent talks to the cluster"),
    ("leader_lease_duration", "octavia-bridge has no cluster-wide lock"),
    ("leader_renew_deadline", "octavia-bridge has no cluster-wide lock"),
    ("leader_retry_period", "octavia-bridge has no cluster-wide lock"),
    ("reconciler_cron_expression", "stale addresses are not reclaimed on a schedule"),
    ("sleep_for_race", "a pause for whereabouts' own debugging"),
    ("etcd_host", "whereabouts dropped its etcd store and ignores it, too"),
    ("etcd_username", "whereabouts dropped its etcd store and ignores it, too"),
    ("etcd_password", "whereabouts dropped its etcd store and ignores it, too"),
    ("etcd_key_file", "whereabouts dropped its etcd store and ignores it, too"),
    ("etcd_cert_file", "whereabouts dropped its etcd store and ignores it, too"),
    ("etcd_ca_cert_file", "whereabouts dropped its etcd store and ignores it, too"),
];

/// Marks whereabouts' fields without effect as known, and refuses those that would need one.
pub(super) fn pass_legacy(ipam: &mut Object<'_>) -> Result<(), ConfError> {
    for (key, _) in WITHOUT_EFFECT {
        ipam.present(key);
    }
    const SLICE: &str = "node_slice_size";
    match ipam.string(SLICE)?.filter(|text| !text.is_empty()) {
        None => Ok(()),
        Some(text) => {
            let remedy = "asks for a slice of the range per node, which is not supported; remove it";
            Err(ConfError::Unsupported(FieldError::text(ipam.path_of(SLICE), text, remedy)))
        }
    }
}

/// `configuration_path`: whether it names a file that can count, and whether it is the one that does.
pub(super) fn check_flat_file(
    ipam: &mut Object<'_>,
    datastore: Datastore,
    found: Option<&FlatFile>,
    warnings: &mut Vec<FieldError>,
) -> Result<(), ConfError> {
    const KEY: &str = "configuration_path";
    let Some(named) = absolute_path(ipam, KEY)? else { return Ok(()) };
    let wrong = |remedy: String| FieldError::text(ipam.path_of(KEY), &named.to_string_lossy(), remedy);
    if datastore == Datastore::File {
        let remedy =
            "names a flat file, which is not read with datastore \"file\"; write its fields into this block";
        return Err(ConfError::Unsupported(wrong(remedy.to_owned())));
    }
    if !places::is_flat_file(&named) {
        let folders = places::FLAT_FILE_DIRS.join(", ");
        return Err(
            wrong(format!("is not a file of whereabouts; name one that lies in one of {folders}")).into()
        );
    }
    match found.map(FlatFile::path) {
        Some(path) if path == named => {}
        None => warnings.push(wrong("does not exist; no other flat file was found".to_owned())),
        Some(path) => warnings.push(wrong(format!("does not exist; {} is read instead", path.display()))),
    }
    Ok(())
}

pub(super) fn datastore(ipam: &mut Object<'_>) -> Result<Datastore, ConfError> {
    let text = ipam.string("datastore")?.unwrap_or_default();
    let wrong = |remedy| FieldError::text(ipam.path_of("datastore"), text, remedy);
    match text {
        "" | "kubernetes" => Ok(Datastore::Kubernetes),
        "file" => Ok(Datastore::File),
        "etcd" => Err(ConfError::Unsupported(wrong("is not supported; write \"file\" or \"kubernetes\""))),
        _ => Err(wrong("is not a datastore; write \"file\" or \"kubernetes\"").into()),
    }
}

pub(super) fn absolute_path(ipam: &mut Object<'_>, key: &str) -> Result<Option<PathBuf>, FieldError> {
    let Some(text) = ipam.string(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let path = PathBuf::from(text);
    // A runtime's working directory is nobody's promise.
    if path.is_absolute() && !text.contains('\0') {
        Ok(Some(path))
    } else {
        let remedy = "is not an absolute path; write one like /var/lib/octavia-bridge";
        Err(FieldError::text(ipam.path_of(key), text, remedy))
    }
}

/// `log_file`, unless it lies where no log of ours does: a pod is worth more than its log.
pub(super) fn log_file(
    ipam: &mut Object<'_>,
    warnings: &mut Vec<FieldError>,
) -> Result<Option<PathBuf>, FieldError> {
    let Some(text) = ipam.string("log_file")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let path = PathBuf::from(text);
    if places::is_log_file(&path) {
        return Ok(Some(path));
    }
    let folder = places::LOG_DIR;
    let remedy = format!(
        "is not a place for logs and has no effect; write one like {folder}/octavia.log or /var/log/whereabouts.log"
    );
    warnings.push(FieldError::text(ipam.path_of("log_file"), text, remedy));
    Ok(None)
}

pub(super) fn log_level(
    ipam: &mut Object<'_>,
    warnings: &mut Vec<FieldError>,
) -> Result<Option<String>, FieldError> {
    let Some(text) = ipam.string("log_level")?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let level = text.to_ascii_lowercase();
    if matches!(level.as_str(), "panic" | "error" | "verbose" | "debug") {
        return Ok(Some(level));
    }
    let remedy = "is not a log level and has no effect; write panic, error, verbose or debug";
    warnings.push(FieldError::text(ipam.path_of("log_level"), text, remedy));
    Ok(None)
}

pub(super) fn dns(ipam: &mut Object<'_>, warnings: &mut Vec<FieldError>) -> Result<Dns, FieldError> {
    let Some(mut dns) = ipam.object("dns")? else { return Ok(Dns::default()) };
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    let parsed = Dns {
        nameservers: owned(dns.strings("nameservers")?),
        domain: dns.string("domain")?.filter(|text| !text.is_empty()).map(str::to_owned),
        search: owned(dns.strings("search")?),
        options: owned(dns.strings("options")?),
    };
    warnings.extend(super::ranges::unknown(&dns));
    Ok(parsed)
}
