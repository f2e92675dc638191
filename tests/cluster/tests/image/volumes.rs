//! What of the host a pod's containers see.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume, VolumeMount};

use crate::kubelet::Pod;
use crate::runtime::Runtime;

impl Pod<'_> {
    /// A bind mount as the runtime's option, of what the host has.
    pub(crate) fn mount(&self, mount: &VolumeMount) -> String {
        let VolumeMount { name, mount_path, read_only, mount_propagation, .. } = mount;
        let known = VolumeMount {
            name: name.clone(),
            mount_path: mount_path.clone(),
            read_only: *read_only,
            mount_propagation: mount_propagation.clone(),
            ..VolumeMount::default()
        };
        assert_eq!(*mount, known, "the mount of {name} has something else than is understood");
        let propagation = match mount_propagation.as_deref() {
            None | Some("None") => "rprivate",
            Some("HostToContainer") => "rslave",
            Some(other) => panic!("the mount of {name}: mountPropagation {other} is not understood"),
        };
        let mode = if *read_only == Some(true) { "ro" } else { "rw" };
        let source = self.volume(name);
        format!(
            "--mount=type=bind,src={},dst={mount_path},options=rbind:{propagation}:{mode}",
            source.display()
        )
    }

    /// Where a volume of the pod is for the test.
    fn volume(&self, name: &str) -> PathBuf {
        let volume = self.spec.volumes.iter().flatten().find(|volume| volume.name == name);
        let volume = volume.unwrap_or_else(|| panic!("there is no volume {name}"));
        let Volume { host_path, config_map, empty_dir, .. } = volume;
        let known = Volume {
            name: name.to_owned(),
            host_path: host_path.clone(),
            config_map: config_map.clone(),
            empty_dir: empty_dir.clone(),
            ..Volume::default()
        };
        assert_eq!(*volume, known, "volume {name} has something else than is understood");
        if let Some(map) = config_map {
            return self.files_of(&map.name, map.optional == Some(true));
        }
        if empty_dir.is_some() {
            let folder = Runtime::shared().path(&format!("{}.{name}", self.name));
            fs::create_dir_all(&folder).expect("create an emptyDir");
            return folder;
        }
        let HostPathVolumeSource { path, type_ } =
            host_path.as_ref().expect("a hostPath, a configMap or an emptyDir");
        let file = self.host.path(path);
        match type_.as_deref() {
            Some("DirectoryOrCreate") => {
                fs::create_dir_all(&file).unwrap_or_else(|e| panic!("volume {name}: create {path}: {e}"));
            }
            Some("Directory") => assert!(file.is_dir(), "volume {name}: the host has no folder {path}"),
            // Kubelet would not look, and containerd create a folder whatever was meant.
            other => panic!("volume {name}: hostPath type {other:?} is not understood"),
        }
        file
    }

    /// A `ConfigMap`'s entries as files.
    fn files_of(&self, map: &str, optional: bool) -> PathBuf {
        let folder = Runtime::shared().path(&format!("{}.{map}", self.name));
        fs::create_dir_all(&folder).expect("create a ConfigMap's folder");
        let answer = self.admin.call("GET", &self.admin.core(&format!("configmaps/{map}")), None);
        assert!(
            answer.status == 200 || (optional && answer.status == 404),
            "ConfigMap {map}: {}",
            answer.body
        );
        for (key, text) in answer.body["data"].as_object().into_iter().flatten() {
            fs::write(folder.join(key), text.as_str().unwrap_or_default())
                .expect("write a ConfigMap's entry");
        }
        folder
    }
}
