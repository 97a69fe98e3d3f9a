//! Which port each node of a local cluster listens on for what.

use std::net::{Ipv4Addr, TcpListener};

/// What a node listens for, in the order of [`PortPlan`]'s fields.
const USES: usize = 5;
const USE_NAMES: [&str; USES] = ["http", "tcp", "line", "admin", "cluster"];
/// The ports of the first node when none are named and they are free; 0: any.
const DEFAULTS: [u16; USES] = [8080, 8081, 6000, 8090, 0];

/// Ports for http, tcp, line, admin and cluster. Node `i` (from 0) gets base + `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPlan {
    bases: [Option<u16>; USES],
    /// Whether the first node takes the default ports where they are free.
    defaults_for_first: bool,
}

impl PortPlan {
    /// Free ports for everything, chosen by the kernel.
    pub fn any() -> Self {
        Self::default()
    }

    /// Named bases; where none is named, the default port for the first node if it is free, and any free port else.
    /// Fails when the ports of `nodes` nodes overlap or pass 65,535.
    pub fn bases(
        http: Option<u16>,
        tcp: Option<u16>,
        line: Option<u16>,
        admin: Option<u16>,
        cluster: Option<u16>,
        nodes: usize,
    ) -> Result<Self, String> {
        let plan = Self { bases: [http, tcp, line, admin, cluster], defaults_for_first: true };
        let mut taken: Vec<(u16, &str)> = Vec::new();
        for (base, name) in plan.bases.iter().zip(USE_NAMES) {
            let Some(base) = *base else { continue };
            for at in 0..nodes {
                let port = port_at(base, at).ok_or_else(|| {
                    format!("--{name}-port {base} leaves no room for {nodes} nodes; take a lower one")
                })?;
                if let Some((_, other)) = taken.iter().find(|(other, _)| *other == port) {
                    return Err(format!(
                        "--{name}-port and --{other}-port overlap at {port} with {nodes} nodes; set them further apart"
                    ));
                }
                taken.push((port, name));
            }
        }
        Ok(plan)
    }

    /// The ports of node `at` (from 0); 0: any free one.
    pub(super) fn of(&self, at: usize) -> [u16; USES] {
        let named: Vec<u16> = self.bases.iter().filter_map(|base| port_at((*base)?, at)).collect();
        let mut ports = [0; USES];
        for (use_at, port) in ports.iter_mut().enumerate() {
            *port = match self.bases[use_at] {
                Some(base) => port_at(base, at).unwrap_or(0),
                None => {
                    let default = DEFAULTS[use_at];
                    let wanted = self.defaults_for_first && at == 0 && default != 0;
                    if wanted && !named.contains(&default) && is_free(default) { default } else { 0 }
                }
            };
        }
        ports
    }
}

fn port_at(base: u16, at: usize) -> Option<u16> {
    base.checked_add(u16::try_from(at).ok()?)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_count_up_from_the_base() {
        let plan =
            PortPlan::bases(Some(20_000), Some(20_100), None, None, None, 3).expect("they don't overlap");
        assert_eq!(plan.of(2)[..2], [20_002, 20_102]);
        assert_eq!(plan.of(2)[2..], [0, 0, 0]);
        assert_eq!(PortPlan::any().of(0), [0; USES]);
    }

    #[test]
    fn overlaps_and_overflows_are_refused() {
        let overlap = PortPlan::bases(Some(8080), Some(8081), None, None, None, 3);
        assert!(overlap.is_err_and(|reason| reason.contains("overlap at 8081")));
        let overflow = PortPlan::bases(Some(65_535), None, None, None, None, 2);
        assert!(overflow.is_err_and(|reason| reason.contains("no room")));
    }
}
