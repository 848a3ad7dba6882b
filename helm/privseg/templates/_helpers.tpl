{{/* Names leave room for the suffixes of the parts. */}}
{{- define "privseg.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "privseg.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "privseg.labels" -}}
{{ include "privseg.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The restricted Pod Security Standard, and a root file system nobody can write to. */}}
{{- define "privseg.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "privseg.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* cameras.yaml, see privseg/streaming/config.py. Output names are the chart's, so no two cameras can share one. */}}
{{- define "privseg.cameras" -}}
{{- /* insecure: the network policy lets nobody but the gateway reach Triton, so that way may be in clear */}}
{{- $cameras := dict }}
{{- range $name, $camera := .Values.cameras }}
{{- if and (contains "${" $camera.source) (not $.Values.gateway.credentialsSecret) }}
{{- fail (printf "cameras.%s.source names a variable: set gateway.credentialsSecret to the Secret that holds it" $name) }}
{{- end }}
{{- $recording := dict "folder" (printf "/recordings/%s" $name) }}
{{- $_ := set $cameras $name (merge (dict "recording" $recording) $camera) }}
{{- end }}
{{- toYaml (dict
  "triton" (dict "url" (printf "dns:///%s-triton:8001" (include "privseg.fullname" .)) "insecure" true)
  "metrics" (dict "address" "0.0.0.0" "port" 9464)
  "cameras" $cameras
) }}
{{- end }}
