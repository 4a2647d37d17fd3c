//! Promises 3, 4 and 5: customers can't touch each other, and nothing is open.

use std::fs;

use crate::{
    cluster::{SYSTEM, kube, together},
    tenant::with_tenant,
};

#[tokio::test]
async fn a_relays_pod_has_no_token_no_capability_and_a_read_only_root() {
    let _company = together().await;
    with_tenant("isolated", async |tenant| {
        tenant.connect("bol", 1).await;
        let pid = tenant.relay_process("bol").await;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
        }
        assert_eq!(
            (field("Uid:").as_str(), field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()),
            ("65532", "1", "2")
        );
        let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).expect("its mounts");
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).expect("a root");
        assert!(
            root.split(' ').nth(3).is_some_and(|options| options.split(',').any(|option| option == "ro")),
            "{root}"
        );
        assert!(!mounts.contains("kubernetes.io/serviceaccount"), "{mounts}");
    })
    .await;
}

#[tokio::test]
async fn tenants_have_keys_and_certificates_of_their_own() {
    let _company = together().await;
    with_tenant("own", async |tenant| {
        for marketplace in ["bol", "ebay"] {
            tenant.connect(marketplace, 1).await;
        }
        let entry = |secret: &str, entry: &str| {
            let path = format!("--output=jsonpath={{.data.{}}}", entry.replace('.', "\\."));
            tenant.kubectl(&["get", "secret", secret, &path]).expect("an entry")
        };
        assert_ne!(entry("bol-database-key", "database-key"), entry("ebay-database-key", "database-key"));
        assert_ne!(entry("bol-keyring", "connection-id"), entry("ebay-keyring", "connection-id"));
        assert_ne!(entry("bol-keyring", "volume.1"), entry("ebay-keyring", "volume.1"));
        assert_ne!(entry("bol-relay-tls", "tls.key"), entry("ebay-relay-tls", "tls.key"));
        let policy =
            tenant.kubectl(&["get", "networkpolicy", "bol-relay", "--output=yaml"]).expect("a policy");
        assert!(policy.contains("- Ingress") && policy.contains("- Egress"), "{policy}");
    })
    .await;
}

#[tokio::test]
async fn nothing_answers_without_a_client_certificate() {
    let _company = together().await;
    with_tenant("closed", async |tenant| {
        tenant.connect("bol", 1).await;
        let address = tenant
            .kubectl(&["get", "pod", "bol-relay-0", "--output=jsonpath={.status.podIP}"])
            .expect("an address");
        let curl = |url: &str| {
            let words = [
                "curl",
                "--silent",
                "--insecure",
                "--max-time",
                "10",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
                url,
            ];
            xtask::run::run(&words).unwrap_or_else(|error| format!("refused {error}"))
        };
        assert_eq!(curl(&format!("https://{address}:9443/livez")), "200");
        for path in ["v1/status", "metrics"] {
            assert_eq!(curl(&format!("https://{address}:9443/{path}")), "403", "{path}");
        }
        let plain = curl(&format!("http://{address}:9443/livez"));
        assert!(plain.starts_with("refused") || plain == "000", "{plain}");
        let words = [
            "get",
            "pod",
            "--namespace",
            SYSTEM,
            "--selector=app.kubernetes.io/component=operator",
            "--output=jsonpath={.items[0].status.podIP}",
        ];
        let operator = kube().get(&words).expect("an address");
        assert_eq!(curl(&format!("https://{operator}:9443/metrics")), "403");
    })
    .await;
}
