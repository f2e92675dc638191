//! A `dataDir` of the plugin's that the command line names.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use octavia_bridge_ipam::conf::places::{DATA_DIR, RUN_DIR};
use octavia_bridge_ipam::conf::same::{is_among_run_dirs, one_name};

/// Parses one: whichever way leads there, it gets the name by which networks name it. The plugin refuses all others.
pub(crate) fn parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(resolved)
}

fn resolved(path: PathBuf) -> Result<PathBuf, String> {
    let path = std::path::absolute(path).map_err(|cause| cause.to_string())?;
    if is_among_run_dirs(&path) {
        return Err(format!(
            "{RUN_DIR} has what the plugin makes for each dataDir; name the dataDir, such as {DATA_DIR}"
        ));
    }
    Ok(one_name(&path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    #[test]
    fn each_way_leads_to_the_one_name() {
        let folder = tempfile::tempdir_in("/run").unwrap();
        let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(resolved(link.clone()).unwrap(), real);
        assert_eq!(resolved(link.join("blue")).unwrap(), real.join("blue"));
        assert_eq!(resolved(DATA_DIR.into()).unwrap(), Path::new(DATA_DIR));
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(resolved("state".into()).unwrap(), here.join("state"));
        for path in [RUN_DIR, "/var/run/octavia-bridge/blue"] {
            assert!(resolved(path.into()).unwrap_err().contains("name the dataDir"), "{path}");
        }
    }
}
