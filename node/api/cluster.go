package api

import "time"

// Members is the cluster as this node sees it: `effiscale members`, GET /members.
type Members struct {
	Schema    int    `json:"schema"`
	Cluster   string `json:"cluster"` // its name
	Self      string `json:"self"`    // id of this node
	Encrypted bool   `json:"encrypted"`
	// Ring is this node's checksum of who owns what, in hex; RingsDiffer: a live
	// member has another one.
	Ring        string `json:"ring"`
	RingsDiffer bool   `json:"rings_differ"`
	// Majority: more than half of the voters are in sight. Expected is how many members
	// should be alive.
	Majority bool         `json:"majority"`
	Expected int          `json:"expected"`
	Members  []MemberView `json:"members"`
	// Problems are what a person should look at. Differing rings and a lost majority
	// are not among them: the fields above show them.
	Problems []string `json:"problems"`
}

// MemberView is one member.
type MemberView struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Address     string    `json:"address"`  // of gossip, host:port
	Relay       string    `json:"relay"`    // of calls, host:port
	State       string    `json:"state"`    // by itself: "participant", "waiting", "leaving"
	Status      string    `json:"status"`   // in gossip: "alive", "suspect", "failed", "left", "refused", "replaced"
	Version     string    `json:"version"`  // of its daemon
	Protocol    int       `json:"protocol"` // of gossip and calls
	Zone        string    `json:"zone"`
	Load        float64   `json:"load"` // share of its cores in use, 0..1
	CPUs        int       `json:"cpus"`
	MemoryBytes int64     `json:"memory_bytes"`
	Owns        int       `json:"owns"`     // services that it plans for
	OwnsNow     bool      `json:"owns_now"` // answered just now; else in gossip, some seconds ago
	RTTMillis   float64   `json:"rtt_ms"`   // of a probe; 0: not known
	Ring        string    `json:"ring"`
	Self        bool      `json:"self"`
	Since       time.Time `json:"since"` // of Status
	Note        string    `json:"note"`  // of this node: why it waits; of one that was refused: why
	// The rest is what it answered just now; missing where it did not, or is of an
	// older version.
	Majority    *bool    `json:"majority,omitempty"`           // as in Members, of its side
	ClockSkew   *float64 `json:"clock_skew_seconds,omitempty"` // its clock less this node's; 0: too near to measure
	Attestation string   `json:"attestation,omitempty"`        // "off", "quorum"
	Timing      string   `json:"timing,omitempty"`
	Error       string   `json:"error,omitempty"` // why it could not be asked
}

// JoinResult is what `effiscale join` did.
type JoinResult struct {
	Schema   int      `json:"schema"`
	Answered int      `json:"answered"` // how many of the addresses
	Failed   []string `json:"failed"`   // the others: "host:port: why"
}

// Keys are the keys of gossip, shown by their fingerprints only:
// `effiscale keys list`, GET /keys. None: gossip is not encrypted.
type Keys struct {
	Schema int       `json:"schema"`
	Keys   []KeyView `json:"keys"`
	Notes  []string  `json:"notes"` // nodes that could not be asked, and differing key files
	// Down is how many of the members are down: which keys they hold is not known.
	Down int `json:"down,omitempty"`
}

// KeyView is one key.
type KeyView struct {
	Fingerprint string `json:"fingerprint"` // first 8 hex digits of its SHA-256
	Primary     bool   `json:"primary"`     // what is sent is encrypted with it
	Senders     int    `json:"senders"`     // members that encrypt with it
	Nodes       int    `json:"nodes"`       // members that answered that they hold it
	Of          int    `json:"of"`          // members that there are, with those that are down
}

// ClusterView is the cluster's part of a Status; nil: no cluster.
type ClusterView struct {
	Name        string     `json:"name"`
	Members     int        `json:"members"` // known and not left
	Alive       int        `json:"alive"`
	Expected    int        `json:"expected"` // as in Members
	Majority    bool       `json:"majority"`
	Encrypted   bool       `json:"encrypted"`
	Ring        string     `json:"ring"`
	RingsDiffer bool       `json:"rings_differ"`
	Owned       int        `json:"owned"` // services that this node plans for
	Hosts       []HostView `json:"hosts"`
	// Summary adds up the last hour of SummaryOf hosts: those that answered.
	Summary   Summary `json:"summary"`
	SummaryOf int     `json:"summary_of"`
}

// HostView is one host of the cluster at a glance.
type HostView struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	Status      string  `json:"status"` // as in MemberView
	CPUs        int     `json:"cpus"`   // 0: not known yet
	CPUUsed     float64 `json:"cpu_used"`
	MemoryBytes int64   `json:"memory_bytes"`
	MemoryUsed  int64   `json:"memory_used_bytes"`
	Containers  int     `json:"containers"`
	Managed     int     `json:"managed"`
	Ring        string  `json:"ring"`
	Degraded    bool    `json:"degraded"`
	Error       string  `json:"error"` // why it cannot be asked; "": it answered
	// PoolCPU and PoolCPUGranted are as in NodeView; 0: not known.
	PoolCPU        float64 `json:"pool_cpu"`
	PoolCPUGranted float64 `json:"pool_cpu_granted"`
}

// ClusterStats are counts for the metrics page. Totals only grow until the daemon stops;
// the maps are the caller's.
type ClusterStats struct {
	Members      map[string]int // by MemberView.Status; nil: no cluster
	GossipHealth int            // memberlist's awareness: 0 is well, each step slows suspicion down
	Claims       int            // services that this node plans for
	Majority     bool           // more than half of the voters are in sight
	Takeovers    uint64         // claims of a service that another node had planned for
	TermsRefused uint64         // intents with a term lower than one that was seen

	RelaySent, RelayReceived uint64 // bytes of calls between nodes
	RelayErrors              uint64 // calls that failed
	RelayDropped             uint64 // messages that found their queue full

	Events         map[string]uint64 // what this node noticed of its own standing
	TrustRefused   map[string]uint64 // peers and messages, by cause
	ReportsRefused map[string]uint64 // by cause
	Intents        map[string]uint64 // that came for this host, by result
}
