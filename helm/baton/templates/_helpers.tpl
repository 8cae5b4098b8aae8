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
{{- fail "secrets.existingSecret is not set: name a Secret with the keys under secrets.keys (or each of them under secrets.from; for a look around use secrets.create or trial.enabled)" -}}
{{- end -}}
{{- end -}}

{{/* Each secret that is used, as `items` of a document in YAML: its name here, its setting, and the Secret and key that hold it. */}}
{{- define "baton.secrets" -}}
{{- $root := . -}}
{{- $settings := dict "databaseUrl" "POSTGRES__URL" "redisUrl" "REDIS__URL" "redisSentinels" "REDIS__SENTINELS" "brokerApiKey" "BROKER__API_KEY" "signalsToken" "SIGNALS__TOKEN" "signalsSecret" "SIGNALS__SECRET" "operatorToken" "OPERATOR__TOKEN" "telegramBotToken" "NOTIFY__TELEGRAM_BOT_TOKEN" "webhookUrl" "NOTIFY__WEBHOOK_URL" "webhookSecret" "NOTIFY__WEBHOOK_SECRET" "slackUrl" "NOTIFY__SLACK_URL" "smtpUrl" "NOTIFY__SMTP_URL" "heartbeatUrl" "NOTIFY__HEARTBEAT_URL" -}}
items:
{{- range $name, $setting := $settings }}
{{- $key := get $root.Values.secrets.keys $name }}
{{- /* `--reuse-values` brings the values of a chart that did not have it. */}}
{{- $elsewhere := get ($root.Values.secrets.from | default dict) $name }}
{{- if $elsewhere }}
  - {name: {{ $name }}, setting: BATON_{{ $setting }}, secret: {{ $elsewhere.secret | quote }}, key: {{ $elsewhere.key | quote }}}
{{- else if $key }}
  - {name: {{ $name }}, setting: BATON_{{ $setting }}, secret: {{ include "baton.secret" $root | quote }}, key: {{ $key | quote }}}
{{- end }}
{{- end }}
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
{{- range (include "baton.secrets" . | fromYaml).items }}
- name: {{ .setting }}_FILE
  value: /etc/baton/secrets/{{ .name }}
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
{{/* What the chart's own Secret holds. */}}
{{- define "baton.created" -}}
{{- $full := include "baton.fullname" . }}
{{- $trial := dict }}
{{- if .Values.trial.enabled }}
{{- $trial = dict "databaseUrl" (printf "postgres://baton:trial@%s-postgres:5432/baton" $full) "redisUrl" (printf "redis://%s-redis:6379/0" $full) "brokerApiKey" "paper" "signalsToken" "trial" "operatorToken" "trial" }}
{{- end }}
{{- $given := merge (deepCopy .Values.secrets.create) $trial }}
{{- range (include "baton.secrets" . | fromYaml).items }}
{{- if eq .secret (include "baton.secret" $) }}
{{ .key | quote }}: {{ required (printf "secrets.create.%s is missing" .name) (get $given .name) | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "baton.volumes" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- /* Of what the chart makes itself, this is the name, too: a hook runs before it is there. */ -}}
{{- $own := "" -}}
{{- if not $root.Values.secrets.existingSecret -}}
{{- $own = include "baton.fullname" $root -}}
{{- end -}}
- name: config
  configMap:
    name: {{ $name }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range (include "baton.secrets" $root | fromYaml).items }}
      - secret:
          name: {{ eq .secret $own | ternary $name .secret | quote }}
          items: [{key: {{ .key | quote }}, path: {{ .name }}}]
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
