# Writes what an agent does into agentwatch's log directory, from Windows PowerShell 5.1 or PowerShell 7.
#
#   Import-Module ./agent-work-logger.ps1 -Force -Global      (or dot-source it)
#
# Functions and parameters are those of the logger that the format comes from, so that scripts written for it work unchanged.
# The log directory is that of AGENT_WORK_LOG_DIR, else .cache/agent-work-logs below the current location. AGENTWATCH_RUN names the
# run, and AGENT_WORK_LOGGING_ENABLED=false switches everything off. Nothing here throws for what a disk does: what cannot be written
# is counted, and told once as a warning.
#
# ASCII only: Windows PowerShell reads a file without a byte order mark in the machine's own encoding.

$script:AgentSessions = @{}
$script:AgentLinesLost = 0
$script:AgentUtf8 = New-Object System.Text.UTF8Encoding($false)

function Test-AgentLogging {
    $value = $env:AGENTWATCH_LOGS_LOGGING_ENABLED
    if (-not $value) { $value = $env:AGENT_WORK_LOGGING_ENABLED }
    return -not (@('false', 'no', 'off', 'n', 'f', '0') -contains "$value".ToLowerInvariant())
}

function Get-AgentLogDirectory {
    $directory = $env:AGENTWATCH_LOGS_DIR
    if (-not $directory) { $directory = $env:AGENT_WORK_LOG_DIR }
    if (-not $directory) { $directory = '.cache/agent-work-logs' }
    return [System.IO.Path]::Combine((Get-Location -PSProvider FileSystem).ProviderPath, $directory)
}

function Get-AgentTranscriptPath {
    param([string]$AttemptId)

    $name = [regex]::Replace($AttemptId, '[^\w.-]', '_')
    return [System.IO.Path]::Combine((Get-AgentLogDirectory), 'agent-sessions', "$name.jsonl")
}

# One line, appended as a whole. .NET has no append that the system orders, so that all who write through here take turns.
function Add-AgentLine {
    param([string]$Path, $Entry)

    try {
        $json = $Entry | ConvertTo-Json -Compress -Depth 10 -WarningAction SilentlyContinue
        $bytes = $script:AgentUtf8.GetBytes("$json`n")
        [void][System.IO.Directory]::CreateDirectory([System.IO.Path]::GetDirectoryName($Path))
        $mutex = New-Object System.Threading.Mutex($false, 'AgentWorkStreamLog')
        $isOurs = $false
        try {
            try { $isOurs = $mutex.WaitOne(5000) } catch [System.Threading.AbandonedMutexException] { $isOurs = $true }
            $file = New-Object System.IO.FileStream($Path, [System.IO.FileMode]::Append, [System.IO.FileAccess]::Write, [System.IO.FileShare]::ReadWrite)
            try { $file.Write($bytes, 0, $bytes.Length) } finally { $file.Dispose() }
        }
        finally {
            if ($isOurs) { $mutex.ReleaseMutex() }
            $mutex.Dispose()
        }
    }
    catch {
        $script:AgentLinesLost += 1
        if ($script:AgentLinesLost -eq 1) {
            Write-Warning "agentwatch: $Path cannot be written: $($_.Exception.Message) Events are lost from here on."
        }
    }
}

function Get-AgentTimestamp { return [DateTime]::UtcNow.ToString('o', [System.Globalization.CultureInfo]::InvariantCulture) }

function Get-AgentElapsedMs {
    param([string]$AttemptId)

    if (-not $script:AgentSessions.ContainsKey($AttemptId)) { return $null }
    return [long]([DateTime]::UtcNow - $script:AgentSessions[$AttemptId].Started).TotalMilliseconds
}

function Get-AgentRunId {
    if ($env:AGENTWATCH_RUN -ne 'latest') { return $env:AGENTWATCH_RUN }
    $link = Get-Item -LiteralPath ([System.IO.Path]::Combine((Get-AgentLogDirectory), 'runs', 'latest')) -ErrorAction SilentlyContinue
    if (-not $link -or -not $link.Target) { return $null }
    return [System.IO.Path]::GetFileName(@($link.Target)[0])
}

# Copies what is set: an absent field is left out, not null.
function Add-AgentField {
    param($Entry, $From, [string[]]$Names)

    if ($null -eq $From) { return }
    foreach ($name in $Names) {
        $value = $From[$name]
        if ($null -eq $value -or "$value" -eq '') { continue }
        # What Get-Content gives is a string with properties, which 5.1 writes as an object.
        if ($value -is [string]) { $value = "$value" }
        $Entry[$name] = $value
    }
}

function Write-AgentWorkLog {
    <#
    .SYNOPSIS
    Writes one event of an attempt.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [string]$AttemptId,
        [Parameter(Mandatory)]
        [ValidateSet('session_start', 'session_end', 'user_message', 'turn_start', 'turn_end', 'agent_output', 'agent_thinking',
            'tool_call', 'tool_result', 'error', 'followup_sent', 'status_change', 'compaction', 'usage')]
        [string]$EventType,
        [Parameter(Mandatory)] [hashtable]$Data,
        [hashtable]$TaskMetadata,
        [hashtable]$ExecutorInfo,
        [hashtable]$GitContext
    )

    if (-not (Test-AgentLogging)) { return }
    $entry = [ordered]@{ timestamp = Get-AgentTimestamp; attempt_id = $AttemptId; event_type = $EventType }
    Add-AgentField $entry $TaskMetadata @('task_id', 'task_title', 'task_description', 'project_id')
    Add-AgentField $entry $ExecutorInfo @('executor', 'executor_variant', 'model')
    Add-AgentField $entry $GitContext @('branch', 'base_branch', 'commits_ahead', 'commits_behind')
    Add-AgentField $entry @{ run_id = Get-AgentRunId; elapsed_ms = Get-AgentElapsedMs $AttemptId } @('run_id', 'elapsed_ms')
    $entry['data'] = $Data

    $directory = Get-AgentLogDirectory
    Add-AgentLine ([System.IO.Path]::Combine($directory, 'agent-work-stream.jsonl')) $entry
    Add-AgentLine (Get-AgentTranscriptPath $AttemptId) $entry
    if ($EventType -eq 'error') { Add-AgentLine ([System.IO.Path]::Combine($directory, 'agent-errors.jsonl')) $entry }
}

# An event of an attempt that was started here: what it is about is known.
function Write-AgentSessionEvent {
    param([string]$AttemptId, [string]$EventType, $Fields)

    $data = @{}
    Add-AgentField $data $Fields @($Fields.Keys)
    $about = @{}
    $known = $script:AgentSessions[$AttemptId]
    if ($known) {
        foreach ($name in 'TaskMetadata', 'ExecutorInfo', 'GitContext') {
            if ($known[$name]) { $about[$name] = $known[$name] }
        }
    }
    Write-AgentWorkLog -AttemptId $AttemptId -EventType $EventType -Data $data @about
}

function Start-AgentSession {
    <#
    .SYNOPSIS
    Logs that a session begins. What is said of it here stands on all its later events.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [string]$AttemptId,
        [Parameter(Mandatory)] [hashtable]$TaskMetadata,
        [Parameter(Mandatory)] [hashtable]$ExecutorInfo,
        [hashtable]$GitContext,
        [string]$Prompt,
        [string]$PromptType = 'initial',
        [string]$FollowupReason
    )

    $script:AgentSessions[$AttemptId] = @{
        Started = [DateTime]::UtcNow; TaskMetadata = $TaskMetadata; ExecutorInfo = $ExecutorInfo; GitContext = $GitContext
    }
    $where = (Get-Location -PSProvider FileSystem).ProviderPath
    Write-AgentSessionEvent $AttemptId 'session_start' @{ prompt = $Prompt; prompt_type = $PromptType; followup_reason = $FollowupReason; cwd = $where }
}

function Stop-AgentSession {
    <#
    .SYNOPSIS
    Logs that a session is over, and its line of metrics.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [string]$AttemptId,
        [Parameter(Mandatory)] [ValidateSet('success', 'failed', 'timeout', 'interrupted')] [string]$CompletionStatus,
        [int]$TotalTokens,
        [double]$CostUSD,
        [hashtable]$Outcome
    )

    $fields = @{ completion_status = $CompletionStatus; duration_ms = Get-AgentElapsedMs $AttemptId; outcome = $Outcome }
    if ($TotalTokens) { $fields['total_tokens'] = $TotalTokens }
    if ($CostUSD) { $fields['cost_usd'] = $CostUSD }
    Write-AgentSessionEvent $AttemptId 'session_end' $fields
    $duration = [int][Math]::Min([int]::MaxValue, [long](Get-AgentElapsedMs $AttemptId))
    Write-AgentSessionMetrics -AttemptId $AttemptId -CompletionStatus $CompletionStatus -DurationMs $duration -TotalTokens $TotalTokens -CostUSD $CostUSD -Outcome $Outcome
    $script:AgentSessions.Remove($AttemptId)
}

function Write-AgentError {
    <#
    .SYNOPSIS
    Logs an error. A fingerprint that is not given is made by the daemon, from the message.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [string]$AttemptId,
        [Parameter(Mandatory)] [string]$ErrorMessage,
        [string]$ErrorFingerprint,
        [string]$ErrorCategory,
        [string]$StackTrace
    )

    Write-AgentSessionEvent $AttemptId 'error' @{
        error_message = $ErrorMessage; error_fingerprint = $ErrorFingerprint; error_category = $ErrorCategory; stack_trace = $StackTrace
    }
}

function Write-AgentFollowup {
    <#
    .SYNOPSIS
    Logs that the agent was sent another message.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [string]$AttemptId,
        [Parameter(Mandatory)] [string]$Message,
        [string]$Reason
    )

    Write-AgentSessionEvent $AttemptId 'followup_sent' @{ prompt = $Message; followup_reason = $Reason }
}

function Write-AgentStatusChange {
    <#
    .SYNOPSIS
    Logs that the attempt is in another state.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [string]$AttemptId,
        [Parameter(Mandatory)] [string]$OldStatus,
        [Parameter(Mandatory)] [string]$NewStatus,
        [string]$Reason
    )

    Write-AgentSessionEvent $AttemptId 'status_change' @{ old_status = $OldStatus; new_status = $NewStatus; reason = $Reason }
}

function Write-AgentSessionMetrics {
    <#
    .SYNOPSIS
    Writes the line of metrics of a session that is over; its errors are counted in its own file.
    #>
    [CmdletBinding()]
    param(
        [Parameter(Mandatory)] [string]$AttemptId,
        [string]$CompletionStatus,
        [int]$DurationMs,
        [int]$TotalTokens,
        [double]$CostUSD,
        [hashtable]$Outcome
    )

    $known = $script:AgentSessions[$AttemptId]
    if (-not $known -or -not (Test-AgentLogging)) { return }
    $errors = @(Read-AgentLines (Get-AgentTranscriptPath $AttemptId) | Where-Object { $_.event_type -eq 'error' })
    $status = $CompletionStatus
    if ($status -eq 'success') { $status = 'completed' }
    $result = @{ status = $status }
    if ($Outcome) { foreach ($name in $Outcome.Keys) { $result[$name] = $Outcome[$name] } }

    $entry = [ordered]@{ timestamp = Get-AgentTimestamp; attempt_id = $AttemptId }
    Add-AgentField $entry $known.TaskMetadata @('task_id', 'task_title', 'task_description', 'project_id')
    Add-AgentField $entry $known.ExecutorInfo @('executor', 'executor_variant', 'model')
    $entry['completion_status'] = $CompletionStatus
    $entry['metrics'] = @{ duration_ms = $DurationMs; total_tokens = $TotalTokens; cost_usd = $CostUSD; errors = $errors.Count }
    $entry['outcome'] = $result
    $entry['error_summary'] = @{
        total_errors       = $errors.Count
        error_categories   = @($errors | ForEach-Object { $_.data.error_category } | Where-Object { $_ } | Select-Object -Unique)
        error_fingerprints = @($errors | ForEach-Object { $_.data.error_fingerprint } | Where-Object { $_ } | Select-Object -Unique)
    }
    Add-AgentLine ([System.IO.Path]::Combine((Get-AgentLogDirectory), 'agent-metrics.jsonl')) $entry
}

# The objects of a file of lines; a line that is none is passed over.
function Read-AgentLines {
    param([string]$Path)

    if (-not (Test-Path -LiteralPath $Path)) { return }
    Get-Content -LiteralPath $Path -Encoding UTF8 | ForEach-Object {
        try { $_ | ConvertFrom-Json -ErrorAction Stop } catch { Write-Verbose "passed over: $($_.Exception.Message)" }
    }
}

function Read-AgentLinesSince {
    param([string]$Name, [int]$LastNDays)

    $since = [DateTimeOffset]::UtcNow.AddDays(-$LastNDays)
    Read-AgentLines ([System.IO.Path]::Combine((Get-AgentLogDirectory), $Name)) | Where-Object {
        # PowerShell 7 has made a date of it already, 5.1 has not.
        $at = [DateTimeOffset]::MinValue
        if ($_.timestamp -is [DateTime]) { $at = [DateTimeOffset]$_.timestamp }
        else { [void][DateTimeOffset]::TryParse("$($_.timestamp)", [System.Globalization.CultureInfo]::InvariantCulture, [System.Globalization.DateTimeStyles]::AssumeUniversal, [ref]$at) }
        $at -ge $since
    }
}

function Get-SessionMetrics {
    <#
    .SYNOPSIS
    The metrics of the sessions that ended in the last days.
    #>
    [CmdletBinding()]
    param([int]$LastNDays = 7)

    Read-AgentLinesSince 'agent-metrics.jsonl' $LastNDays
}

function Get-ErrorClusters {
    <#
    .SYNOPSIS
    The errors of the last days by fingerprint, the most frequent first.
    #>
    [CmdletBinding()]
    param([int]$LastNDays = 7, [int]$TopN = 10)

    Read-AgentLinesSince 'agent-errors.jsonl' $LastNDays | Group-Object -Property { $_.data.error_fingerprint } | ForEach-Object {
        $events = @($_.Group | Sort-Object -Property timestamp)
        [PSCustomObject]@{
            Fingerprint   = $_.Name
            Count         = $_.Count
            AffectedTasks = @($events | ForEach-Object { $_.task_id } | Where-Object { $_ } | Select-Object -Unique).Count
            FirstSeen     = $events[0].timestamp
            LastSeen      = $events[-1].timestamp
            SampleMessage = $events[0].data.error_message
        }
    } | Sort-Object -Property Count -Descending | Select-Object -First $TopN
}

function Show-AgentWorkSummary {
    <#
    .SYNOPSIS
    Shows what agents did in the last days. `agentwatch summary` shows more.
    #>
    [CmdletBinding()]
    param([int]$LastNDays = 7)

    $sessions = @(Get-SessionMetrics -LastNDays $LastNDays)
    if ($sessions.Count -eq 0) {
        Write-Host 'No session data found'
        return
    }
    $cost = ($sessions | ForEach-Object { $_.metrics.cost_usd } | Measure-Object -Sum).Sum
    $duration = ($sessions | ForEach-Object { $_.metrics.duration_ms } | Measure-Object -Average).Average
    Write-Host "Agent work of the last $LastNDays days"
    Write-Host ('  {0} sessions, {1:P1} successful, {2:N1} s each, {3:N2} USD' -f $sessions.Count, (Get-AgentSuccessRate $sessions), ($duration / 1000), $cost)
    foreach ($group in ($sessions | Group-Object -Property executor)) {
        Write-Host ('  {0}: {1} sessions, {2:P1} successful' -f $group.Name, $group.Count, (Get-AgentSuccessRate $group.Group))
    }
    foreach ($cluster in (Get-ErrorClusters -LastNDays $LastNDays -TopN 5)) {
        $sample = "$($cluster.SampleMessage)"
        Write-Host ('  {0}: {1} times. {2}' -f $cluster.Fingerprint, $cluster.Count, $sample.Substring(0, [Math]::Min(80, $sample.Length)))
    }
}

function Get-AgentSuccessRate {
    param($Sessions)

    $all = @($Sessions)
    $good = @($all | Where-Object { $_.outcome.status -eq 'completed' -or $_.outcome.status -eq 'success' -or $_.completion_status -eq 'success' })
    return $good.Count / $all.Count
}

# Dot-sourced, all functions are there already, and this would be an error.
if ($MyInvocation.MyCommand.ScriptBlock.Module) {
    Export-ModuleMember -Function 'Write-AgentWorkLog', 'Start-AgentSession', 'Stop-AgentSession', 'Write-AgentError', 'Write-AgentFollowup',
        'Write-AgentStatusChange', 'Write-AgentSessionMetrics', 'Get-SessionMetrics', 'Get-ErrorClusters', 'Show-AgentWorkSummary'
}
