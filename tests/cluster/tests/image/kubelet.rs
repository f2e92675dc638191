//! What kubelet does with a pod of the `DaemonSet`, as far as the `DaemonSet` makes use of it.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, Probe};
use octavia_bridge_cluster_tests::{Access, Cluster, Relay};
use serde_json::json;

use crate::host::Host;
use crate::runtime::{DEADLINE, Runtime, Source, output};
use crate::understood;

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A `DaemonSet`'s pod that runs on a host. Its container is ended with the sandbox if not before.
pub(crate) struct Pod<'a> {
    pub(crate) host: &'a Host,
    /// The name of the object, and of the container.
    pub(crate) name: String,
    pub(crate) admin: Access,
    pub(crate) spec: PodSpec,
    container: Container,
    image: String,
    /// `ctr`, which runs as long as the container does.
    ctr: Option<Child>,
    relay: Relay,
}

impl<'a> Pod<'a> {
    /// Creates the pod as the `DaemonSet`'s controller does, and starts it as kubelet does, of this image instead of its own.
    pub(crate) fn start(
        cluster: &Cluster,
        set: &DaemonSet,
        host: &'a Host,
        number: u32,
        image: &str,
    ) -> Self {
        let namespace = set.metadata.namespace.as_deref().expect("the DaemonSet has a namespace");
        let set_name = set.metadata.name.as_deref().expect("the DaemonSet has a name");
        let template = &set.spec.as_ref().expect("the DaemonSet has a spec").template;
        let mut spec = template.spec.clone().expect("the DaemonSet's pods have a spec");
        spec.node_name = Some(host.name.clone());
        understood::pod(&spec);
        let [container] =
            <[Container; 1]>::try_from(spec.containers.clone()).expect("the pod has one container");

        let admin = cluster.admin().in_namespace(namespace);
        let name = format!("{set_name}-{}-{number}", host.name);
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
        let object = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
        admin.create(&admin.core("pods"), &object);

        let account = spec.service_account_name.as_deref().unwrap_or("default");
        let relay = Relay::start(&cluster.service_account(namespace, account), host.node.path());
        let mut pod = Self { host, name, admin, spec, container, image: image.to_owned(), ctr: None, relay };
        for first in pod.spec.init_containers.iter().flatten() {
            let id = format!("{}-{}", pod.name, first.name);
            let ended = output(&mut pod.run(first, &id));
            let said = || String::from_utf8_lossy(&ended.stderr).into_owned() + &Runtime::shared().log(&id);
            assert!(ended.status.success(), "{id}\n{}", said());
        }
        pod.ctr = Some(pod.run(&pod.container, &pod.name).spawn().expect("start ctr"));
        pod
    }

    /// What runs a container under a name.
    fn run(&self, container: &Container, id: &str) -> Command {
        understood::container(container);
        let mut environment = self.environment(container);
        let mut options = vec![format!("--with-ns=network:{}", self.host.node.path().display())];
        options.extend(understood::security(
            &self.spec,
            container.security_context.as_ref().expect("a securityContext"),
        ));
        for mount in container.volume_mounts.iter().flatten() {
            options.push(self.mount(mount));
        }
        let secrets = Runtime::shared().path(&format!("{}.secrets", self.name));
        let access = self.relay.access();
        access.write_service_account(&secrets);
        options.push(format!(
            "--mount=type=bind,src={},dst={SERVICE_ACCOUNT},options=rbind:ro",
            secrets.display()
        ));
        let server = access.url().strip_prefix("https://").expect("the API's address is https://…");
        let (address, port) = server.rsplit_once(':').expect("the API's address has a port");
        environment.insert("KUBERNETES_SERVICE_HOST".to_owned(), address.to_owned());
        environment.insert("KUBERNETES_SERVICE_PORT".to_owned(), port.to_owned());
        options.extend(environment.iter().map(|(name, value)| format!("--env={name}={value}")));

        // Without a command it would be the image's, which `ctr` leaves out when it is told of arguments.
        let command = container.command.as_ref().expect("the container has a command");
        let arguments = container.args.iter().flatten();
        let process: Vec<_> =
            command.iter().chain(arguments).map(|word| expand(word, &environment)).collect();
        Runtime::shared().container(self.host.ctr(), id, Source::Image(&self.image), &options, &process)
    }

    fn environment(&self, container: &Container) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for EnvVar { name, value, value_from } in container.env.iter().flatten() {
            let field = value_from.as_ref().map(|from| {
                let field = from
                    .field_ref
                    .as_ref()
                    .unwrap_or_else(|| panic!("env {name}: only a fieldRef is understood"));
                match field.field_path.as_str() {
                    "spec.nodeName" => self.host.name.clone(),
                    "metadata.name" => self.name.clone(),
                    "metadata.namespace" => self.admin.namespace().to_owned(),
                    other => panic!("env {name}: fieldPath {other} is not understood"),
                }
            });
            let value = field.or_else(|| value.clone()).unwrap_or_default();
            environment.insert(name.clone(), expand(&value, &environment));
        }
        environment
    }

    /// Waits until its probes say that it is up and ready, as kubelet does before the next node's turn.
    #[track_caller]
    pub(crate) fn ready(&mut self) {
        let probes = [self.container.startup_probe.clone(), self.container.readiness_probe.clone()];
        for probe in probes.into_iter().flatten() {
            let started = Instant::now();
            while let Err(why) = self.probe(&probe) {
                let (log, late) = (self.log(), started.elapsed() >= DEADLINE);
                let ended = self.ctr.as_mut().and_then(|ctr| ctr.try_wait().expect("look for ctr's end"));
                assert!(!late && ended.is_none(), "{} is not ready: {why}\n{log}", self.name);
                thread::sleep(Duration::from_millis(50));
            }
        }
        let alive = self.container.liveness_probe.as_ref().map_or(Ok(()), |probe| self.probe(probe));
        alive.unwrap_or_else(|why| panic!("{} would be killed: {why}\n{}", self.name, self.log()));
    }

    /// Runs a probe's program inside the container, as kubelet has the runtime do.
    fn probe(&self, probe: &Probe) -> Result<(), String> {
        let exec = probe.exec.as_ref().expect("a probe by exec");
        let words = exec.command.as_deref().expect("a probe by exec has a command");
        let ended = output(&mut Runtime::shared().inside(&self.name, words));
        if ended.status.success() {
            return Ok(());
        }
        let [said, why] =
            [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Err(format!("{words:?}: {}: {said}{why}", ended.status))
    }

    pub(crate) fn log(&self) -> String {
        Runtime::shared().log(&self.name)
    }

    /// How the root of its process is mounted.
    pub(crate) fn root_options(&self) -> String {
        let mounts = self.process_file("mounts");
        let root =
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[1] == "/");
        root.expect("a process has a root")[3].to_owned()
    }

    fn process_file(&self, name: &str) -> String {
        let process = Runtime::shared().process(&self.name).expect("its container was started");
        let file = format!("/proc/{process}/{name}");
        fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {file}: {e}"))
    }

    /// A line of `/proc/PID/status` of its process.
    pub(crate) fn process_status(&self, key: &str) -> String {
        let text = self.process_file("status");
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {key} in {text}")).trim().to_owned()
    }

    /// Ends it as kubelet does: SIGTERM, and after the grace period SIGKILL, which must not be needed.
    #[track_caller]
    pub(crate) fn stop(mut self) -> String {
        let grace = self.spec.termination_grace_period_seconds.unwrap_or(30);
        let asked = Instant::now();
        Runtime::shared().signal(&self.name, "SIGTERM");
        let status = self.ctr.take().expect("it was started").wait().expect("wait for ctr");
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(
            took < Duration::from_secs(grace.try_into().expect("a grace period")),
            "ended after {took:?}\n{}",
            self.log()
        );
        let path = self.admin.core(&format!("pods/{}?gracePeriodSeconds=0", self.name));
        self.admin.delete(&path);
        self.log()
    }
}

impl Drop for Pod<'_> {
    #[expect(clippy::print_stderr, reason = "what the agent said belongs to the failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
    }
}

/// Names in `$(…)` are replaced as kubelet does it.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in environment {
        text = text.replace(&format!("$({name})"), value);
    }
    assert!(!text.contains("$("), "{text} names a variable that is not there");
    text
}
