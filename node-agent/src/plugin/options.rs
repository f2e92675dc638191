//! The command line's options for the plugin.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

/// The plugin, and under which names to install it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Plugin")]
pub(crate) struct Plugin {
    /// Plugin to install [default: octavia-bridge beside octavia-bridge-agent]
    #[arg(long = "plugin", value_name = "FILE", env = "PLUGIN_FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Install the plugin under more names, for networks that name another plugin: bridge, whereabouts, or
    /// bridge,whereabouts. Another plugin's file of that name is an error.
    #[arg(long, value_name = "NAME[,NAME]", env = "ALSO_AS", default_value = "", hide_default_value = true)]
    pub(crate) also_as: AlsoAs,
}

/// Names of others for which it can stand in.
pub(super) const ON_REQUEST: [&str; 2] = ["bridge", "whereabouts"];

/// Further names for the plugin, as a list with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AlsoAs(pub(super) BTreeSet<String>);

impl FromStr for AlsoAs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Empty, as a variable of a pod may be, is none.
        let mut names = BTreeSet::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if !ON_REQUEST.contains(&name) {
                return Err(format!("\"{name}\" is not one of {}", ON_REQUEST.join(", ")));
            }
            names.insert(name.to_owned());
        }
        Ok(Self(names))
    }
}

#[cfg(test)]
mod tests {
    use super::AlsoAs;

    #[test]
    fn other_names_are_those_two() {
        let read = |text: &str| text.parse::<AlsoAs>().map(|names| names.0.into_iter().collect::<Vec<_>>());
        assert_eq!(read(" ").unwrap(), [""; 0]);
        assert_eq!(read("whereabouts, bridge,").unwrap(), ["bridge", "whereabouts"]);
        assert!(
            read("bridge,macvlan").unwrap_err().contains("\"macvlan\" is not one of bridge, whereabouts")
        );
    }
}
