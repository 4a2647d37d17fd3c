{{/* The name of the release's objects: `marketrelay` for a release of that name. */}}
{{- define "marketrelay.fullname" -}}
{{- if contains "marketrelay" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-marketrelay" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide objects carry the namespace too, so that two installations don't fight over them. */}}
{{- define "marketrelay.clusterName" -}}
{{- if eq .Release.Namespace "marketrelay-system" -}}
{{- include "marketrelay.fullname" . -}}
{{- else -}}
{{- printf "%s-%s" (include "marketrelay.fullname" .) .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* Relays let in pods with the first label alone. */}}
{{- define "marketrelay.selector" -}}
app.kubernetes.io/name: marketrelay
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "marketrelay.labels" -}}
{{ include "marketrelay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* image: the image's values; appVersion: the tag if they have none. */}}
{{- define "marketrelay.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (.image.tag | default .appVersion) -}}
{{- end -}}
{{- end -}}

{{/* The operator's configuration file. */}}
{{- define "marketrelay.config" -}}
{{- $v := .Values -}}
relay:
  image: {{ include "marketrelay.image" (dict "image" $v.relay.image "appVersion" .Chart.AppVersion) | quote }}
  imagePullPolicy: {{ $v.relay.image.pullPolicy }}
  imagePullSecrets: {{ $v.relay.imagePullSecrets | toJson }}
  resources:
    requests:
      {{- range $name, $quantity := $v.relay.resources.requests }}
      {{ $name }}: {{ $quantity | toString | quote }}
      {{- end }}
    limits:
      {{- range $name, $quantity := $v.relay.resources.limits }}
      {{ $name }}: {{ $quantity | toString | quote }}
      {{- end }}
{{- with $v.storage.defaultStorageClassName }}
storage:
  defaultStorageClassName: {{ . | quote }}
{{- end }}
{{- $delay := $v.retention.shorteningDelay }}
{{- if not (or $v.allowShortDurations (regexMatch "[dh]$|^([6-9][0-9]|[0-9]{3,})m$|^(3[6-9][0-9]{2}|[4-9][0-9]{3}|[0-9]{5,})s$" $delay)) }}
{{- fail (printf "retention.shorteningDelay is %s: below 1h there is too little time to notice a mistake and take it back; write 1h or more (allowShortDurations is for tests)" $delay) }}
{{- end }}
allowShortDurations: {{ $v.allowShortDurations }}
retention:
  shorteningDelay: {{ $delay }}
{{- with $v.endpoints }}
endpoints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $v.egress.allowedNetworks }}
{{- if not (contains "/" .) }}
{{- fail (printf "egress.allowedNetworks: %s has no mask: write %s/%s for this one address, or a network such as 10.20.0.0/16" . . (ternary "128" "32" (contains ":" .))) }}
{{- end }}
{{- end }}
egress:
  allowedNetworks: {{ $v.egress.allowedNetworks | toJson }}
  {{- with $v.egress.extraCaCertificates | trim }}
  extraCaCertificates: |
    {{- . | nindent 4 }}
  {{- end }}
rollout:
  maxUpdating: {{ $v.rollout.maxUpdating | int }}
  haltAfterSeconds: {{ $v.rollout.haltAfterSeconds | int }}
closure:
  breaker: {{ $v.closure.breaker | int }}
backup:
  image: {{ include "marketrelay.image" (dict "image" $v.backup.image "appVersion" .Chart.AppVersion) | quote }}
  imagePullPolicy: {{ $v.backup.image.pullPolicy }}
  resources:
    requests:
      {{- range $name, $quantity := $v.backup.resources.requests }}
      {{ $name }}: {{ $quantity | toString | quote }}
      {{- end }}
    limits:
      {{- range $name, $quantity := $v.backup.resources.limits }}
      {{ $name }}: {{ $quantity | toString | quote }}
      {{- end }}
  deadlineSeconds: {{ $v.backup.deadlineSeconds | int }}
  concurrentRuns: {{ $v.backup.concurrentRuns | int }}
  {{- with $v.backup.escrow.recipients }}
  escrow:
    recipients: {{ . | toJson }}
  {{- end }}
  {{- range $site := list "onSite" "offSite" }}
  {{- $said := dict }}
  {{- range $name, $value := (get $v.backup $site).s3 }}
  {{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) }}
  {{- $_ := set $said $name $value }}
  {{- end }}
  {{- end }}
  {{ $site }}: {{ dict "s3" $said | toJson }}
  {{- end }}
controller:
  concurrency: {{ $v.controller.concurrency | int }}
  statusIntervalSeconds: {{ $v.controller.statusIntervalSeconds | int }}
{{- end -}}

{{/* Another name than the operator's: relays let in pods of that name alone. */}}
{{- define "marketrelay.noticesSelector" -}}
app.kubernetes.io/name: marketrelay-ebay-notices
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "marketrelay.noticesLabels" -}}
{{ include "marketrelay.noticesSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* The configuration file of the receiver of eBay's notices. */}}
{{- define "marketrelay.noticesConfig" -}}
endpoint: {{ .Values.ebayNotices.endpoint | quote }}
operator: https://marketrelay-operator.{{ .Release.Namespace }}.svc:9443/
{{- with .Values.endpoints.ebay }}
endpoints:
  {{- toYaml . | nindent 2 }}
{{- end }}
egress:
  allowedNetworks: {{ .Values.egress.allowedNetworks | toJson }}
  {{- with .Values.egress.extraCaCertificates | trim }}
  extraCaCertificates: |
    {{- . | nindent 4 }}
  {{- else }}
  extraCaCertificates: ""
  {{- end }}
{{- end -}}

{{/* Another name than the operator's, for the same reason. */}}
{{- define "marketrelay.escrowDrillSelector" -}}
app.kubernetes.io/name: marketrelay-escrow-drill
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "marketrelay.escrowDrillLabels" -}}
{{ include "marketrelay.escrowDrillSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{/* Rules of files/rbac.yaml about what lives in the cluster (scope "cluster") or in namespaces (scope "namespace"). */}}
{{- define "marketrelay.rules" -}}
{{- $clusterScoped := list "storageclasses" "namespaces" "persistentvolumes" -}}
{{- range .rules }}
{{- if eq (has (first .resources) $clusterScoped) (eq $.scope "cluster") }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end -}}
