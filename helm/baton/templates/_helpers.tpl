{{/* 23 characters, because a pod's name is its member's name, which Baton wants within 40. */}}
{{- define "baton.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 23 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $full | trunc 23 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "baton.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "baton.labels" -}}
{{ include "baton.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "baton.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "baton.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "baton.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "baton.secret" -}}
{{- if .Values.secrets.existingSecret -}}
{{ .Values.secrets.existingSecret }}
{{- else if or .Values.secrets.create .Values.trial.enabled -}}
{{ include "baton.fullname" . }}
{{- else -}}
{{- fail "secrets.existingSecret is not set: name a Secret with the keys under secrets.keys (or use secrets.create or trial.enabled for a look around)" -}}
{{- end -}}
{{- end -}}

{{/* The settings that the chart itself decides; the rest is baton.toml. */}}
{{- define "baton.env" -}}
- name: BATON_CONFIG
  value: /etc/baton/baton.toml
- name: BATON_CLUSTER__NAME
  value: {{ .Values.cluster.name | default .Release.Name | quote }}
- name: BATON_CLUSTER__MEMBER
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: BATON_CLUSTER__ADDRESS
  value: http://$(POD_IP):8080
- name: BATON_HTTP__LISTEN
  value: 0.0.0.0:8080
- name: BATON_EMERGENCY__JOURNAL
  value: /var/lib/baton/emergency.jsonl
- name: BATON_SHUTDOWN__EXIT_POLICY
  value: {{ .Values.shutdown.exitPolicy }}
- name: BATON_SHUTDOWN__BUDGET_MS
  value: {{ .Values.shutdown.budgetMs | int | quote }}
{{- if .Values.traces.endpoint }}
- name: BATON_TRACES__ENDPOINT
  value: {{ .Values.traces.endpoint | quote }}
- name: BATON_TRACES__SAMPLE_PERCENT
  value: {{ .Values.traces.samplePercent | int | quote }}
{{- end }}
{{- $names := dict "databaseUrl" "BATON_POSTGRES__URL" "redisUrl" "BATON_REDIS__URL" "brokerApiKey" "BATON_BROKER__API_KEY" "signalsToken" "BATON_SIGNALS__TOKEN" "signalsSecret" "BATON_SIGNALS__SECRET" "operatorToken" "BATON_OPERATOR__TOKEN" "telegramBotToken" "BATON_NOTIFY__TELEGRAM_BOT_TOKEN" }}
{{- range $name, $key := .Values.secrets.keys }}
{{- if $key }}
- name: {{ get $names $name }}_FILE
  value: /etc/baton/secrets/{{ $key }}
{{- end }}
{{- end }}
{{- if .Values.trial.enabled }}
- name: BATON_BROKER__URL
  value: http://{{ include "baton.fullname" . }}-paper:5000
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "baton.mounts" -}}
- name: config
  mountPath: /etc/baton/baton.toml
  subPath: baton.toml
  readOnly: true
- name: secrets
  mountPath: /etc/baton/secrets
  readOnly: true
- name: state
  mountPath: /var/lib/baton
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes a list: the context and the ConfigMap's name. */}}
{{- define "baton.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  configMap:
    name: {{ index . 1 }}
- name: secrets
  secret:
    secretName: {{ include "baton.secret" $root }}
    defaultMode: 0440
    items:
      {{- range $name, $key := $root.Values.secrets.keys }}
      {{- if $key }}
      - {key: {{ $key }}, path: {{ $key }}}
      {{- end }}
      {{- end }}
- name: state
  {{- if $root.Values.state.existingClaim }}
  persistentVolumeClaim: {claimName: {{ $root.Values.state.existingClaim }}}
  {{- else }}
  emptyDir: {sizeLimit: 16Mi}
  {{- end }}
{{- with $root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "baton.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "baton.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "baton.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
