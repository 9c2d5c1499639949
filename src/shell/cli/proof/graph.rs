//! `keyward gate graph`: what stands on what, as text, for Graphviz, or as JSON.

use super::args::Graph as Told;
use crate::domain::graph;
use crate::shell::cli::args::Output;
use crate::shell::cli::console::{Exit, Failure, Tone};
use crate::shell::cli::{Done, Run};
use crate::shell::http::model::{Edge, Graph, Node};

impl Run {
    pub(in crate::shell::cli) fn gate_graph(&self, told: &Told) -> Done {
        if told.dot && self.output != Output::Table {
            return Err(Failure::new(Exit::Usage, "--dot is a format of its own", "leave -o out"));
        }
        let graph = match self.common.socket {
            Some(_) => self.daemon()?.get("/v1/graph")?,
            None => {
                let settings = self.settings()?;
                let links = settings.links.iter().map(|link| &**link);
                Graph::from(&graph::Graph::of(&settings.estate).with_links(links))
            }
        };
        match self.output {
            Output::Json => self.console.json(&graph)?,
            Output::Name => graph.nodes.iter().for_each(|n| self.console.out(format!("{} {}", n.kind, n.name))),
            Output::Table if told.dot => dot(&graph).iter().for_each(|line| self.console.out(line)),
            Output::Table => self.print_graph(&graph),
        }
        Ok(if graph.cycles.is_empty() { Exit::Ok } else { Exit::Warning })
    }

    /// Each thing with what stands on it.
    fn print_graph(&self, graph: &Graph) {
        for node in &graph.nodes {
            let above: Vec<&Edge> = graph.edges.iter().filter(|e| e.from == *node).collect();
            let alone = !graph.edges.iter().any(|e| e.to == *node);
            if above.is_empty() && !alone {
                continue;
            }
            self.console.out(self.console.paint(&format!("{} {}", node.kind, node.name), Tone::Strong));
            for edge in above {
                self.console.out(format!("  {} {} {}", edge.relation, edge.to.kind, edge.to.name));
            }
        }
        for cycle in &graph.cycles {
            let behind = match cycle.behind {
                0 => String::new(),
                n => format!("; {n} more wait behind it"),
            };
            let tone = if cycle.refused { Tone::Bad } else { Tone::Warn };
            let ring = self.console.paint("ring", tone);
            self.console.out(format!("{ring} {}: {} (tier {}){behind}", cycle.code, cycle.text, cycle.tier));
        }
    }
}

/// In the language of Graphviz; edges of a ring are red.
fn dot(graph: &Graph) -> Vec<String> {
    let mut lines = vec!["digraph keyward {".to_owned(), "  rankdir=LR;".to_owned()];
    for node in &graph.nodes {
        let shape = match node.kind.as_str() {
            "path" => "hexagon",
            "credential" => "box",
            "issuer" => "house",
            _ => "ellipse",
        };
        lines.push(format!("  {} [label={}, shape={shape}];", id(node), quoted(&node.name)));
    }
    for edge in &graph.edges {
        let approves = edge.from.kind == "path" && edge.to.kind == "credential";
        let rings =
            graph.cycles.iter().any(|c| c.paths.contains(&edge.from.name) && c.credentials.contains(&edge.to.name));
        let colour = if approves && rings { ", color=red" } else { "" };
        lines.push(format!("  {} -> {} [label={}{colour}];", id(&edge.from), id(&edge.to), quoted(&edge.relation)));
    }
    lines.push("}".to_owned());
    lines
}

fn id(node: &Node) -> String {
    quoted(&format!("{} {}", node.kind, node.name))
}

/// A quoted string of the DOT language: only quotes and backslashes need care.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
