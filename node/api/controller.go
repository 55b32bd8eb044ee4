package api

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

type neighbors struct {
	Neighbors map[string]string `json:"neighbors" doc:"Endpoints by controller id"`
}

type registerIn struct {
	Body struct {
		_            struct{} `additionalProperties:"false"`
		ControllerID string   `json:"controller_id" minLength:"1" maxLength:"128"`
		Endpoint     string   `json:"endpoint" minLength:"3" maxLength:"261" doc:"host:port"`
	}
}

type decisionIn struct {
	Body struct {
		_         struct{} `additionalProperties:"false"`
		CPU       *float64 `json:"cpu_usage,omitempty" minimum:"0" maximum:"1" doc:"Share, 0 to 1"`
		Memory    *float64 `json:"memory_usage,omitempty" minimum:"0" maximum:"1" doc:"Share, 0 to 1"`
		Container *string  `json:"container_id,omitempty" doc:"Asks for the plan of a container instead"`
	}
}

type decision struct {
	Action      string     `json:"action" enum:"scale_out,scale_in,scale_up,scale_down,no_action"`
	Timestamp   time.Time  `json:"timestamp"`
	Controllers []string   `json:"participating_controllers" nullable:"false"`
	Reason      string     `json:"reason,omitempty"`
	Confidence  *float64   `json:"confidence,omitempty"`
	Plan        []PlanItem `json:"plan,omitempty"`
	Forecast    *Forecast  `json:"forecast,omitempty" doc:"CPU demand of the next five minutes"`
	Pattern     *Pattern   `json:"pattern,omitempty"`
}

type leaderIn struct {
	Container string `query:"container_id" doc:"A container, to ask whether this node owns it"`
}

type leader struct {
	IsLeader bool   `json:"is_leader"`
	Owner    string `json:"owner,omitempty" doc:"Only with a container"`
}

// controller is the service of decisions and of the nodes that make them.
type controller struct {
	b    ControllerBackend
	node NodeBackend
	now  func() time.Time
}

func (c controller) register(api huma.API) {
	handle(api, post("register", "/register", "Introduce a controller"), c.join)
	handle(api, get("neighbors", "/neighbors", "The other controllers"), c.neighbors)
	handle(api, post("decision", "/decision", "What should be done; changes nothing"), c.decide)
	handle(api, get("leader", "/leader", "Whether this node leads, or owns a container"), c.leader)
}

func (c controller) join(ctx context.Context, in *registerIn) (statusMessage, error) {
	if !namePattern.MatchString(in.Body.ControllerID) && len(in.Body.ControllerID) > 1 {
		return statusMessage{}, Errorf(KindInvalid, "body.controller_id: letters, digits, '_', '.' and '-' only")
	}
	host, port, err := net.SplitHostPort(in.Body.Endpoint)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || !hostForm(host) {
		return statusMessage{}, Errorf(KindInvalid, "body.endpoint: must be host:port with a port from 1 to 65535")
	}
	return statusMessage{Status: "registered"}, c.b.Register(ctx, in.Body.ControllerID, in.Body.Endpoint)
}

// hostForm reports whether s looks like a name or an address.
func hostForm(s string) bool {
	if net.ParseIP(s) != nil {
		return true
	}
	return len(s) == 1 && s[0] >= 'a' && s[0] <= 'z' || namePattern.MatchString(s)
}

func (c controller) neighbors(ctx context.Context, _ *struct{}) (neighbors, error) {
	all, err := c.b.Neighbors(ctx)
	if all == nil {
		all = map[string]string{}
	}
	return neighbors{Neighbors: all}, err
}

func (c controller) decide(ctx context.Context, in *decisionIn) (decision, error) {
	b := in.Body
	if b.Container != nil {
		return c.decideFor(ctx, *b.Container)
	}
	if b.CPU == nil || b.Memory == nil {
		return decision{}, Errorf(KindInvalid, "body: expected cpu_usage and memory_usage, each 0 to 1, or container_id")
	}
	name, _ := c.node.Identity()
	return decision{Action: ruleOfThumb(*b.CPU, *b.Memory), Timestamp: c.now().UTC(), Controllers: []string{name}}, nil
}

// ruleOfThumb is the original's answer to bare numbers: first match, strict.
func ruleOfThumb(cpu, memory float64) string {
	switch {
	case cpu > 0.9 || memory > 0.9:
		return "scale_out"
	case cpu > 0.75 || memory > 0.75:
		return "scale_up"
	case cpu < 0.3 && memory < 0.3:
		return "scale_in"
	case cpu < 0.4 && memory < 0.4:
		return "scale_down"
	}
	return "no_action"
}

func (c controller) decideFor(ctx context.Context, ref string) (decision, error) {
	if err := CheckRef(ref); err != nil {
		return decision{}, err
	}
	p, err := c.b.Decide(ctx, ref)
	return decision{
		Action:      p.Action,
		Timestamp:   c.now().UTC(),
		Controllers: listed(p.Controllers),
		Reason:      p.Reason,
		Confidence:  &p.Confidence,
		Plan:        p.Plan,
		Forecast:    p.Forecast,
		Pattern:     p.Pattern,
	}, err
}

func (c controller) leader(ctx context.Context, in *leaderIn) (leader, error) {
	if in.Container != "" {
		if err := CheckRef(in.Container); err != nil {
			return leader{}, err
		}
	}
	self, owner, err := c.b.Leader(ctx, in.Container)
	if in.Container == "" {
		owner = ""
	}
	return leader{IsLeader: self, Owner: owner}, err
}
