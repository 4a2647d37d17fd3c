//! Whether the volumes of a StorageClass are encrypted at rest.

use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use marketrelay_api::labels;

/// A driver that says in a parameter whether its volumes are encrypted.
struct Driver {
    provisioner: &'static str,
    parameter: &'static str,
    /// The value that says so; absent: any value that isn't empty.
    value: Option<&'static str>,
}

impl Driver {
    /// A name that begins with a dot stands for every name that ends so.
    fn serves(&self, provisioner: &str) -> bool {
        let family = self.provisioner.starts_with('.') && provisioner.ends_with(self.provisioner);
        family || self.provisioner == provisioner
    }
}

/// Drivers whose documentation names the parameter. A class of another driver, or one that is encrypted outside the
/// driver (LUKS below a local provisioner, a disk array), needs the annotation by the platform engineer.
const DRIVERS: [Driver; 12] = [
    // https://github.com/kubernetes-sigs/aws-ebs-csi-driver/blob/master/docs/parameters.md
    Driver { provisioner: "ebs.csi.aws.com", parameter: "encrypted", value: Some("true") },
    Driver { provisioner: "ebs.csi.eks.amazonaws.com", parameter: "encrypted", value: Some("true") },
    // https://github.com/kubernetes-sigs/gcp-compute-persistent-disk-csi-driver (customer-managed keys)
    Driver { provisioner: "pd.csi.storage.gke.io", parameter: "disk-encryption-kms-key", value: None },
    // https://github.com/kubernetes-sigs/azuredisk-csi-driver/blob/master/docs/driver-parameters.md
    Driver { provisioner: "disk.csi.azure.com", parameter: "diskEncryptionSetID", value: None },
    // https://longhorn.io/docs/latest/advanced-resources/security/volume-encryption/
    Driver { provisioner: "driver.longhorn.io", parameter: "encrypted", value: Some("true") },
    // https://github.com/ceph/ceph-csi/blob/devel/docs/deploy-rbd.md
    Driver { provisioner: "rbd.csi.ceph.com", parameter: "encrypted", value: Some("true") },
    // Rook puts its operator's namespace before the driver's name.
    Driver { provisioner: ".rbd.csi.ceph.com", parameter: "encrypted", value: Some("true") },
    // https://docs.portworx.com (CSI, encrypted volumes)
    Driver { provisioner: "pxd.portworx.com", parameter: "secure", value: Some("true") },
    Driver { provisioner: "kubernetes.io/portworx-volume", parameter: "secure", value: Some("true") },
    // https://github.com/kubernetes/cloud-provider-openstack (Cinder types carry encryption, so the class can't say)
    // https://github.com/hetznercloud/csi-driver/blob/main/docs/kubernetes/README.md (volume encryption by LUKS)
    Driver {
        provisioner: "csi.hetzner.cloud",
        parameter: "csi.storage.k8s.io/node-publish-secret-name",
        value: None,
    },
    // https://github.com/digitalocean/csi-digitalocean (LUKS)
    Driver { provisioner: "dobs.csi.digitalocean.com", parameter: "luksEncrypted", value: Some("true") },
    // https://linbit.com/drbd-user-guide/linstor-guide-1_0-en (CSI parameter of an encrypted resource)
    Driver {
        provisioner: "linstor.csi.linbit.com",
        parameter: "linstor.csi.linbit.com/encryption",
        value: Some("true"),
    },
];

/// Why a class counts as encrypted, or what to do if it doesn't.
pub fn check(class: &StorageClass) -> Result<String, String> {
    let name = class.name_any();
    match class.annotations().get(labels::ENCRYPTED).map(String::as_str) {
        Some("true") => return Ok(format!("StorageClass {name} is annotated {}=true", labels::ENCRYPTED)),
        Some(other) => {
            return Err(format!(
                "StorageClass {name} is annotated {}={other}: use a class whose volumes are encrypted at rest in \
                 spec.storage.storageClassName",
                labels::ENCRYPTED
            ));
        }
        None => {}
    }
    match declared(class) {
        Some(parameter) => Ok(format!("StorageClass {name} has the parameter {parameter}")),
        None => Err(format!(
            "StorageClass {name} ({}) isn't known to encrypt its volumes at rest: use an encrypted class in \
             spec.storage.storageClassName (delete the connection and apply it anew, the field can't be changed), or, if its volumes are encrypted below Kubernetes, let the cluster's \
             administrator annotate it: kubectl annotate storageclass {name} {}=true",
            class.provisioner,
            labels::ENCRYPTED
        )),
    }
}

fn declared(class: &StorageClass) -> Option<String> {
    let parameters = class.parameters.as_ref()?;
    let driver = DRIVERS.iter().filter(|driver| driver.serves(&class.provisioner));
    driver.into_iter().find_map(|driver| {
        // Drivers take parameter names and booleans in any case.
        let (name, value) =
            parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(driver.parameter))?;
        let says_so = match driver.value {
            Some(expected) => value.eq_ignore_ascii_case(expected),
            None => !value.is_empty(),
        };
        says_so.then(|| format!("{name}: {value}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(provisioner: &str, parameter: Option<(&str, &str)>, annotation: Option<&str>) -> StorageClass {
        let pair = |(k, v): (&str, &str)| [(k.to_owned(), v.to_owned())].into();
        let mut class = StorageClass {
            provisioner: provisioner.to_owned(),
            parameters: parameter.map(pair),
            ..StorageClass::default()
        };
        class.metadata.name = Some("fast".to_owned());
        class.metadata.annotations = annotation.map(|value| pair((labels::ENCRYPTED, value)));
        class
    }

    #[test]
    fn a_class_counts_as_encrypted_only_if_it_says_so() {
        for (provisioner, parameter, annotation, encrypted) in [
            ("ebs.csi.aws.com", Some(("encrypted", "true")), None, true),
            ("ebs.csi.aws.com", Some(("Encrypted", "True")), None, true),
            ("ebs.csi.aws.com", Some(("encrypted", "false")), None, false),
            ("ebs.csi.aws.com", None, None, false),
            ("ebs.csi.aws.com", Some(("encrypted", "true")), Some("false"), false),
            ("pd.csi.storage.gke.io", Some(("disk-encryption-kms-key", "projects/p/k")), None, true),
            ("pd.csi.storage.gke.io", None, None, false),
            ("storage.rbd.csi.ceph.com", Some(("encrypted", "true")), None, true),
            ("rbd.csi.ceph.com.example", Some(("encrypted", "true")), None, false),
            ("rancher.io/local-path", Some(("encrypted", "true")), None, false),
            ("rancher.io/local-path", None, Some("true"), true),
            ("rancher.io/local-path", None, Some("yes"), false),
        ] {
            let class = class(provisioner, parameter, annotation);
            assert_eq!(check(&class).is_ok(), encrypted, "{provisioner} {parameter:?} {annotation:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let message = check(&class("rancher.io/local-path", None, None)).expect_err("refused");
        assert!(
            message.contains("kubectl annotate storageclass fast marketrelay.dev/encrypted=true"),
            "{message}"
        );
    }
}
