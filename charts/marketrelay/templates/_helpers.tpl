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
allowShortDurations: {{ $v.allowShortDurations }}
{{- with $v.endpoints }}
endpoints:
  {{- toYaml . | nindent 2 }}
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
controller:
  concurrency: {{ $v.controller.concurrency | int }}
  statusIntervalSeconds: {{ $v.controller.statusIntervalSeconds | int }}
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
