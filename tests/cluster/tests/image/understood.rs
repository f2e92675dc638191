//! What of a manifest is understood. Whatever else it asks for is an error, so that nothing in it goes untried.

use k8s_openapi::api::core::v1::{Capabilities, Container, PodSecurityContext, PodSpec, SecurityContext};

/// What containerd gives a container that asks for nothing, and what `drop: [ALL]` takes from it.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Options for what a container may do.
pub(crate) fn security(pod: &PodSpec, context: &SecurityContext) -> Vec<String> {
    let seccomp = context.seccomp_profile.as_ref();
    let seccomp = seccomp.or_else(|| pod.security_context.as_ref()?.seccomp_profile.as_ref());
    assert_eq!(seccomp.map(|profile| profile.type_.as_str()), Some("RuntimeDefault"), "seccompProfile");
    assert_eq!(context.allow_privilege_escalation, Some(false), "allowPrivilegeEscalation");
    assert_eq!(context.read_only_root_filesystem, Some(true), "readOnlyRootFilesystem");
    let Capabilities { add, drop } = context.capabilities.clone().unwrap_or_default();
    assert_eq!(drop.as_deref(), Some(&["ALL".to_owned()][..]), "capabilities.drop");
    let add = add.unwrap_or_default();
    let mut options = vec!["--seccomp".to_owned(), "--read-only".to_owned()];
    let dropped = DEFAULT_CAPABILITIES.iter().filter(|name| !add.iter().any(|added| added == *name));
    options.extend(dropped.map(|name| format!("--cap-drop=CAP_{name}")));
    let added = add.iter().filter(|name| !DEFAULT_CAPABILITIES.contains(&name.as_str()));
    options.extend(added.map(|name| format!("--cap-add=CAP_{name}")));
    options
}

/// Asserts that a pod has nothing that this program passes over and that would matter here.
pub(crate) fn pod(pod: &PodSpec) {
    assert_eq!(pod.host_network, Some(true), "hostNetwork");
    assert_ne!(pod.automount_service_account_token, Some(false), "automountServiceAccountToken");
    let rest = PodSpec {
        containers: Vec::new(),
        init_containers: None,
        volumes: None,
        host_network: None,
        node_name: None,
        service_account: None,
        service_account_name: None,
        termination_grace_period_seconds: None,
        security_context: None,
        automount_service_account_token: None,
        // Of the scheduler, of admission, and for names that nobody here looks up.
        affinity: None,
        dns_policy: None,
        enable_service_links: None,
        node_selector: None,
        priority_class_name: None,
        tolerations: None,
        ..pod.clone()
    };
    assert_eq!(rest, PodSpec::default(), "the pod has something else than is understood");
    let context = pod.security_context.clone().unwrap_or_default();
    let rest = PodSecurityContext { seccomp_profile: None, ..context };
    assert_eq!(
        rest,
        PodSecurityContext::default(),
        "the pod's securityContext has something else than is understood"
    );
}

/// The same of a container.
pub(crate) fn container(container: &Container) {
    let rest = Container {
        name: String::new(),
        image: None,
        image_pull_policy: None,
        command: None,
        args: None,
        env: None,
        ports: None,
        volume_mounts: None,
        startup_probe: None,
        readiness_probe: None,
        liveness_probe: None,
        security_context: None,
        // Cgroups are the machine's, and messages are for the API.
        resources: None,
        termination_message_path: None,
        termination_message_policy: None,
        ..container.clone()
    };
    assert_eq!(rest, Container::default(), "the container has something else than is understood");
    let context = container.security_context.clone().unwrap_or_default();
    let rest = SecurityContext {
        allow_privilege_escalation: None,
        capabilities: None,
        privileged: context.privileged.filter(|&privileged| privileged),
        read_only_root_filesystem: None,
        // Without an image's user it is 0 anyway.
        run_as_user: context.run_as_user.filter(|&user| user != 0),
        // The kernels of test machines have no SELinux.
        se_linux_options: None,
        run_as_group: context.run_as_group.filter(|&group| group != 0),
        seccomp_profile: None,
        ..context
    };
    assert_eq!(rest, SecurityContext::default(), "the securityContext has something else than is understood");
}
