package api

import "net/http"

// The table of operations. To add one: a row here with its request and its check in
// requests.go, and its answer in node/ops, where table.go binds the two.
var (
	OpHealth = Operation[None, Done]{Row: Row{
		Name: "health", Verb: http.MethodGet, Path: "/health", Role: RoleRead, Scope: ThisHost,
		Summary: "Whether the daemon is well"}}
	OpStatus = Operation[None, Status]{Row: Row{
		Name: "status", Verb: http.MethodGet, Path: "/status", Role: RoleRead, Scope: EveryHost,
		Summary: "Hosts, services and containers"}}
	OpPlan = Operation[PlanRequest, Plan]{Check: checkPlan, Row: Row{
		Name: "plan", Verb: http.MethodGet, Path: "/plan", Role: RoleRead, Scope: EveryHost,
		Summary: "What the daemon would do now"}}
	OpExplain = Operation[ExplainRequest, Explain]{Check: checkExplain, Row: Row{
		Name: "explain", Verb: http.MethodGet, Path: "/explain/{name}", Role: RoleRead, Scope: OneHost,
		Summary: "One container: signals, thresholds, decisions and their reasons"}}
	OpRecords = Operation[RecordsRequest, History]{Check: checkRecords, Row: Row{
		Name: "records", Verb: http.MethodGet, Path: "/records/{name}", Role: RoleRead, Scope: EveryHost,
		Summary: "Changes of a container or a service, newest first"}}
	OpAllRecords = Operation[AllRecordsRequest, History]{Check: checkAllRecords, Row: Row{
		Name: "all-records", Verb: http.MethodGet, Path: "/records", Role: RoleRead, Scope: EveryHost,
		Summary: "Changes of all containers, newest first"}}
	OpTrace = Operation[TraceRequest, Trace]{Check: checkTrace, Row: Row{
		Name: "trace", Verb: http.MethodGet, Path: "/trace/{name}", Role: RoleRead, Scope: OneHost,
		Summary: "Recorded demand of a service"}}
	OpScale = Operation[ScaleRequest, ScaleResult]{Check: checkScale, Row: Row{
		Name: "scale", Verb: http.MethodPost, Path: "/scale", Role: RoleOperate, Scope: OneHost,
		Summary: "Set limits of a container"}}
	OpPause = Operation[PauseRequest, PauseResult]{Check: checkPause, Row: Row{
		Name: "pause", Verb: http.MethodPost, Path: "/pause", Role: RoleOperate, Scope: EveryHost,
		Summary: "Pause or resume automation of a service"}}
	OpRestore = Operation[RestoreRequest, RestoreResult]{Check: checkRestore, Row: Row{
		Name: "restore", Verb: http.MethodPost, Path: "/restore", Role: RoleOperate, Scope: OneHost,
		Summary: "Put a container, or all of this host, back to the original limits"}}
	OpReload = Operation[None, Done]{Row: Row{
		Name: "reload", Verb: http.MethodPost, Path: "/reload", Role: RoleAdmin, Scope: ThisHost,
		Summary: "Reload the configuration (all or nothing)"}}

	OpMembers = Operation[None, Members]{Row: Row{
		Name: "members", Verb: http.MethodGet, Path: "/members", Role: RoleRead, Scope: EveryHost,
		Summary: "Members of the cluster"}}
	OpJoin = Operation[JoinRequest, JoinResult]{Check: checkJoin, Row: Row{
		Name: "join", Verb: http.MethodPost, Path: "/join", Role: RoleAdmin, Scope: ThisHost,
		Summary: "Join the cluster at an address"}}
	OpLeave = Operation[LeaveRequest, Done]{Row: Row{
		Name: "leave", Verb: http.MethodPost, Path: "/leave", Role: RoleAdmin, Scope: ThisHost,
		Summary: "Leave the cluster, or remove a failed node"}}
	OpKeys = Operation[None, Keys]{Row: Row{
		Name: "keys", Verb: http.MethodGet, Path: "/keys", Role: RoleRead, Scope: EveryHost,
		Summary: "Fingerprints of the gossip keys that the members hold"}}
	OpKeyChange = Operation[KeyRequest, Keys]{Check: checkKeyRequest, Row: Row{
		Name: "key-change", Verb: http.MethodPost, Path: "/keys", Role: RoleAdmin, Scope: EveryHost,
		Summary: "Add, use or remove a gossip key on all members"}}
)
