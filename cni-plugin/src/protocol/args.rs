//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE`, deprecated since 2016 and sent by every Kubernetes runtime today.

use super::{Code, Error};

/// The pairs this plugin reads; the rest is somebody else's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Args {
    /// `MAC`: the address asked for the pod's interface. Multus appends it on ADD.
    pub(crate) mac: Option<String>,
    /// `IP`: comma-separated addresses asked for, with or without a prefix length.
    pub(crate) ips: Vec<String>,
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME`, when both are there.
    pub(crate) pod: Option<String>,
    /// `K8S_POD_UID`: a pod's name may be another's later, its uid never.
    pub(crate) pod_uid: Option<String>,
}

impl Args {
    /// Reads the pairs. A key that neither `known` nor this plugin understands is an error unless
    /// `IgnoreUnknown` is set, as in the reference library.
    ///
    /// Thin multus sends every key twice, the second `IgnoreUnknown` as `1`: the last of equal keys wins.
    /// Thick multus leaves `K8S_POD_INFRA_CONTAINER_ID` empty: empty values are no values.
    pub(crate) fn parse(text: &str, known: &[&str]) -> Result<Self, Error> {
        let mut args = Self::default();
        let (mut namespace, mut name) = (None, None);
        let mut ignore_unknown = false;
        let mut unknown = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::new(
                    Code::InvalidEnvironment,
                    format!("CNI_ARGS {text:?}: {pair:?} is not a pair; write KEY=VALUE, separated by ';'"),
                )
            })?;
            match key {
                "IgnoreUnknown" => ignore_unknown = flag(value)?,
                "MAC" => args.mac = some(value),
                "IP" => args.ips = value.split(',').map(str::trim).filter_map(some).collect(),
                "K8S_POD_NAMESPACE" => namespace = some(value),
                "K8S_POD_NAME" => name = some(value),
                "K8S_POD_UID" => args.pod_uid = some(value),
                _ => {}
            }
            if !matches!(key, "IgnoreUnknown" | "MAC" | "IP") && !known.contains(&key) {
                unknown.push(key);
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(Error::new(
                Code::InvalidEnvironment,
                format!("CNI_ARGS: unknown args {unknown:?}; add IgnoreUnknown=1 to ignore them"),
            ));
        }
        args.pod = namespace.zip(name).map(|(namespace, name)| format!("{namespace}/{name}"));
        Ok(args)
    }
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn flag(value: &str) -> Result<bool, Error> {
    match value {
        "1" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "false" | "False" | "FALSE" | "" => Ok(false),
        _ => Err(Error::new(
            Code::InvalidEnvironment,
            format!("CNI_ARGS IgnoreUnknown {value:?} must be 1, 0, true or false"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thin_multus_says_everything_twice() {
        let once = "K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=octavia-worker-x;K8S_POD_INFRA_CONTAINER_ID=c0ffee;K8S_POD_UID=u";
        let args = Args::parse(&format!("IgnoreUnknown=true;{once};IgnoreUnknown=1;{once}"), &[]).unwrap();
        assert_eq!(args.pod.as_deref(), Some("openstack/octavia-worker-x"));
        assert_eq!(args.pod_uid.as_deref(), Some("u"));
    }

    #[test]
    fn thick_multus_leaves_values_empty_and_appends_requests() {
        let args = Args::parse(
            "IgnoreUnknown=true;K8S_POD_NAMESPACE=o;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=;MAC=02:00:00:00:00:01;IP=172.23.0.40,fd00::1/64",
            &[],
        )
        .unwrap();
        assert_eq!(args.mac.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!(args.ips, ["172.23.0.40", "fd00::1/64"]);
    }

    #[test]
    fn unknown_keys_need_permission() {
        let error = Args::parse("K8S_POD_NAMESPACE=x", &[]).unwrap_err();
        assert!(error.msg.contains("K8S_POD_NAMESPACE"), "{}", error.msg);
        assert!(Args::parse("K8S_POD_NAMESPACE=x", &["K8S_POD_NAMESPACE"]).is_ok());
        assert!(Args::parse("FOO=1;IgnoreUnknown=1", &[]).is_ok());
        assert!(Args::parse("FOO=1;IgnoreUnknown=0", &[]).is_err());
    }

    #[test]
    fn what_is_no_pair_is_shown() {
        let error = Args::parse("IgnoreUnknown=1;foo", &[]).unwrap_err();
        assert!(error.msg.contains("\"foo\""), "{}", error.msg);
        assert!(Args::parse("IgnoreUnknown=maybe", &[]).is_err());
        assert_eq!(Args::parse("", &[]).unwrap(), Args::default());
        assert_eq!(Args::parse("IgnoreUnknown=1;", &[]).unwrap(), Args::default());
    }
}
