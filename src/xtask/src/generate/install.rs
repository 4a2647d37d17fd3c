//! `manifests/install`: the chart with default values, for `kubectl apply -k`.

use std::{collections::BTreeMap, path::Path};

use snafu::OptionExt;

use super::{Files, header};
use crate::run::Result;

/// Where the plain manifests install to.
pub const NAMESPACE: &str = "marketrelay-system";

const FOLDER: &str = "manifests/install";
const SOURCE: &str = "the chart's default values";
const CRDS: &str = "crds.yaml";
const WHOLE: &str = "\
# The operator as the chart installs it with its default values:
#   kubectl apply --server-side -k manifests/install
# Change images and settings in an overlay of your own; a change of the ConfigMap needs a restart of the Deployment.
# To uninstall, delete manifests/install/operator alone: deleting the definitions deletes every connection.
";
const NAMESPACE_OBJECT: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: marketrelay-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: latest
";

/// The manifests of a rendered chart, a file for each of its templates.
pub fn files(rendered: &str) -> Result<Files> {
    let mut by_template = BTreeMap::<&str, Vec<&str>>::new();
    for document in rendered.split("\n---\n").map(|text| text.trim_start_matches("---\n").trim_end()) {
        let (source, object) =
            document.split_once('\n').whatever_context("helm printed an empty document")?;
        let template = source.strip_prefix("# Source: marketrelay/templates/");
        let template = template.with_whatever_context(|| format!("helm printed {source:?}"))?;
        by_template.entry(template).or_default().push(object);
    }
    let mut files = Files::new();
    let mut add = |path: &str, text: String| files.insert(Path::new(FOLDER).join(path), text);
    let mut operator = vec!["namespace.yaml"];
    add("operator/namespace.yaml", format!("{}{NAMESPACE_OBJECT}", header("#", SOURCE)));
    for (template, objects) in &by_template {
        let folder = if *template == CRDS { "crds" } else { "operator" };
        let text = format!("{}{}\n", header("#", SOURCE), objects.join("\n---\n"));
        add(&format!("{folder}/{template}"), text);
        operator.extend((*template != CRDS).then_some(template));
    }
    add("crds/kustomization.yaml", kustomization("", &[CRDS]));
    add("operator/kustomization.yaml", kustomization("", &operator));
    add("kustomization.yaml", kustomization(WHOLE, &["crds", "operator"]));
    Ok(files)
}

fn kustomization(comment: &str, resources: &[&str]) -> String {
    let head = header("#", SOURCE);
    let list: String = resources.iter().map(|name| format!("  - {name}\n")).collect();
    format!(
        "{head}{comment}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{list}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_apart_so_that_uninstalling_can_leave_them() {
        let rendered = "---\n# Source: marketrelay/templates/crds.yaml\nkind: A\n---\n\
                        # Source: marketrelay/templates/rbac.yaml\nkind: B\n---\n\
                        # Source: marketrelay/templates/crds.yaml\nkind: C\n";
        let files = files(rendered).expect("readable");
        let text = |path: &str| files[&Path::new(FOLDER).join(path)].clone();
        assert!(text("crds/crds.yaml").ends_with("kind: A\n---\nkind: C\n"));
        assert!(text("operator/rbac.yaml").ends_with("kind: B\n"));
        assert!(text("operator/kustomization.yaml").ends_with("  - namespace.yaml\n  - rbac.yaml\n"));
        assert!(files.len() == 6);
    }

    #[test]
    fn what_helm_does_not_attribute_to_a_template_is_refused() {
        assert!(files("---\nkind: A\nname: b\n").is_err());
    }
}
