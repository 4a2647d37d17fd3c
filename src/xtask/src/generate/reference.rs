//! `docs/api`: every field of every kind, from the definitions.

use std::{fmt::Write as _, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
};

use super::{Files, header};

const FOLDER: &str = "docs/api";

/// A page for each kind, and one that lists them.
pub fn files(crds: &[CustomResourceDefinition]) -> Files {
    let mut index = format!(
        "{}# API reference\n\nThe API server checks every rule below and refuses what breaks it, with a sentence that \
         says what to do. `kubectl explain KIND.spec` shows the same fields.\n\n| kind | short name | what it is \
         |\n|---|---|---|\n",
        comment()
    );
    let mut files = Files::new();
    for crd in crds {
        let names = &crd.spec.names;
        let short = names.short_names.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        let page = format!("{}.md", names.plural);
        let what = crd.spec.versions.first().and_then(root).map(description).unwrap_or_default();
        append(&mut index, format_args!("| [{}]({page}) | {short} | {what} |\n", names.kind));
        files.insert(Path::new(FOLDER).join(&page), kind(crd, &short));
    }
    files.insert(Path::new(FOLDER).join("README.md"), index);
    files
}

fn comment() -> String {
    format!("<!--{} -->\n", header("", "the types in src/api").trim_end())
}

/// Writing to a text can't fail.
fn append(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(what);
    debug_assert!(written.is_ok());
}

fn root(version: &CustomResourceDefinitionVersion) -> Option<&JSONSchemaProps> {
    version.schema.as_ref()?.open_api_v3_schema.as_ref()
}

fn kind(crd: &CustomResourceDefinition, short: &str) -> String {
    let names = &crd.spec.names;
    let mut text = format!("{}# {}\n\n", comment(), names.kind);
    for version in &crd.spec.versions {
        let Some(root) = root(version) else { continue };
        append(&mut text, format_args!("{}\n\n", description(root)));
        append(
            &mut text,
            format_args!(
                "`apiVersion: {}/{}`, `kind: {}`; {}; `kubectl get {short}`.\n",
                crd.spec.group,
                version.name,
                names.kind,
                crd.spec.scope.to_lowercase()
            ),
        );
        let rules = rules(root);
        if !rules.is_empty() {
            append(&mut text, format_args!("\nRules of the whole object: {}.\n", rules.join("; ")));
        }
        for part in ["spec", "status"] {
            if let Some(schema) = root.properties.as_ref().and_then(|properties| properties.get(part)) {
                section(&mut text, part, schema);
            }
        }
        columns(&mut text, version);
    }
    text
}

fn section(text: &mut String, part: &str, schema: &JSONSchemaProps) {
    append(text, format_args!("\n## {part}\n\n"));
    for rule in rules(schema) {
        append(text, format_args!("- {rule}\n"));
    }
    text.push_str(if rules(schema).is_empty() { "" } else { "\n" });
    let status = part == "status";
    text.push_str(if status {
        "| field | type | description |\n|---|---|---|\n"
    } else {
        "| field | type | default | required | rules | description |\n|---|---|---|---|---|---|\n"
    });
    rows(text, "", schema, status);
}

fn rows(text: &mut String, prefix: &str, schema: &JSONSchemaProps, status: bool) {
    for (name, field) in schema.properties.iter().flatten() {
        let path = format!("{prefix}{name}");
        let (kind, what) = (kind_of(field), cell(&description(field)));
        if status {
            append(text, format_args!("| `{path}` | {kind} | {what} |\n"));
        } else {
            let default = field.default.as_ref().map(|value| format!("`{}`", value.0)).unwrap_or_default();
            let required = schema.required.iter().flatten().any(|required| required == name);
            let required = if required { "yes" } else { "" };
            let rules = cell(&rules(field).join("<br>"));
            append(
                text,
                format_args!("| `{path}` | {kind} | {} | {required} | {rules} | {what} |\n", cell(&default)),
            );
        }
        let is_condition = name == "conditions";
        match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(item)) if !is_condition => {
                rows(text, &format!("{path}[]."), item, status);
            }
            _ => rows(text, &format!("{path}."), field, status),
        }
    }
}

fn kind_of(field: &JSONSchemaProps) -> String {
    let plain = field.type_.as_deref().unwrap_or("any");
    match &field.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => format!("list of {}", kind_of(item)),
        _ => plain.to_owned(),
    }
}

/// What values are allowed: first what the schema says, then the sentences of the CEL rules.
fn rules(schema: &JSONSchemaProps) -> Vec<String> {
    let items = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => rules(item),
        _ => Vec::new(),
    };
    let one_of = schema.enum_.as_ref().map(|values| {
        let values: Vec<_> = values.iter().map(|value| value.0.as_str().unwrap_or_default()).collect();
        format!("one of `{}`", values.join("`, `"))
    });
    let bounds = [
        range(schema.minimum, schema.maximum, ""),
        range(schema.min_length, schema.max_length, " characters"),
        range(schema.min_items, schema.max_items, " entries"),
    ];
    let pattern = schema.pattern.as_ref().map(|pattern| format!("matches `{pattern}`"));
    let sentences = schema.x_kubernetes_validations.iter().flatten();
    let sentences = sentences.map(|rule| rule.message.clone().unwrap_or_else(|| format!("`{}`", rule.rule)));
    let of_schema = one_of.into_iter().chain(bounds.into_iter().flatten()).chain(pattern);
    let items = items.into_iter().map(|rule| format!("each: {rule}"));
    of_schema.chain(sentences).chain(items).collect()
}

fn range<T: std::fmt::Display>(from: Option<T>, to: Option<T>, unit: &str) -> Option<String> {
    match (from, to) {
        (Some(from), Some(to)) => Some(format!("{from} to {to}{unit}")),
        (Some(from), None) => Some(format!("at least {from}{unit}")),
        (None, Some(to)) => Some(format!("at most {to}{unit}")),
        (None, None) => None,
    }
}

fn columns(text: &mut String, version: &CustomResourceDefinitionVersion) {
    text.push_str("\n## Columns of kubectl get\n\n| column | from |\n|---|---|\n");
    for column in version.additional_printer_columns.iter().flatten() {
        let wide = if column.priority.is_some_and(|priority| priority > 0) { ", with `-o wide`" } else { "" };
        append(text, format_args!("| {} | `{}`{wide} |\n", column.name, cell(&column.json_path)));
    }
}

fn description(schema: &JSONSchemaProps) -> String {
    schema.description.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A cell of a table ends at a bar.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(properties: &serde_json::Value, required: &[&str]) -> String {
        let schema = json!({"type": "object", "properties": properties, "required": required});
        let schema: JSONSchemaProps = serde_json::from_value(schema).expect("a schema");
        let mut text = String::new();
        rows(&mut text, "", &schema, false);
        text
    }

    #[test]
    fn fields_are_shown_with_type_default_rules_and_description() {
        let size = json!({
            "type": "string", "default": "1Gi", "maxLength": 16, "pattern": "^[0-9]+(Mi|Gi)$",
            "description": "How\nlarge.", "x-kubernetes-validations": [{"rule": "x", "message": "never shrinks"}],
        });
        let sites =
            json!({"type": "array", "minItems": 1, "items": {"type": "string", "enum": ["nl", "de"]}});
        let storage = json!({"type": "object", "properties": {"size": size}});
        assert_eq!(
            table(&json!({"sites": sites, "storage": storage}), &["sites"]),
            "| `sites` | list of string |  | yes | at least 1 entries<br>each: one of `nl`, `de` |  |\n\
             | `storage` | object |  |  |  |  |\n\
             | `storage.size` | string | `\"1Gi\"` |  | at most 16 characters<br>matches `^[0-9]+(Mi\\|Gi)$`\
             <br>never shrinks | How large. |\n"
        );
    }

    #[test]
    fn every_kind_has_a_page_with_each_of_its_fields() {
        let crds = marketrelay_api::crds::all();
        let files = files(&crds);
        assert_eq!(files.len(), crds.len() + 1);
        let page = |name: &str| &files[&Path::new(FOLDER).join(name)];
        for crd in &crds {
            let name = format!("{}.md", crd.spec.names.plural);
            assert!(page("README.md").contains(&format!("[{}]({name})", crd.spec.names.kind)));
            let root = root(&crd.spec.versions[0]).expect("a schema");
            for part in root.properties.iter().flatten().map(|(_, part)| part) {
                for field in part.properties.iter().flatten().map(|(field, _)| field) {
                    assert!(page(&name).contains(&format!("| `{field}` | ")), "{name}: {field}");
                }
            }
        }
    }
}
