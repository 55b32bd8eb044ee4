package knowledge

import (
	"fmt"
	"slices"
	"strings"
)

// The names of each enumeration, in the order of their values, as in labels,
// configuration, JSON and the knowledge file.
var (
	modeNames     = []string{"off", "observe", "recommend", "auto"}
	classNames    = []string{"serving", "latency", "batch", "database", "jvm", "cache"}
	cpuModeNames  = []string{"quota", "weight"}
	actuatorNames = []string{"engine", "kernel"}
	stateNames    = []string{"unknown", "created", "running", "paused", "restarting", "exited", "dead"}
	healthNames   = []string{"none", "starting", "healthy", "unhealthy"}
	qualityNames  = []string{"missing", "stale", "absurd", "warming", "good"}
	symptomNames  = []string{"none", "idle", "roomy", "tight", "starved", "critical"}
	resourceNames = []string{"cpu", "memory"}
	verbNames     = []string{"hold", "grow", "shrink"}
	actorNames    = []string{"reflex", "deliberation", "user", "undo", "repair", "restore", "external"}
	resultNames   = []string{"open", "applied", "adjusted", "superseded", "refused", "failed", "reverted"}
	boundNames    = []string{"none", "parent cgroup", "cpuset", "inner cgroup", "CFS burst"}
	oomLevelNames = []string{"own limit", "limit of a parent cgroup", "limit of an inner cgroup", "host's memory"}
	stopNames     = []string{"none", "paused (docker)", "frozen", "waiting for memory"}
	eventNames    = []string{"resync", "create", "start", "die", "destroy", "update", "rename", "health", "oom", "pause",
		"unpause", "kill", "stop"}
)

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", v)
}

func parse[T ~uint8](what string, names []string, s string) (T, error) {
	if i := slices.Index(names, s); i >= 0 {
		return T(i), nil
	}
	return 0, fmt.Errorf("%q is not a %s: allowed are %s", s, what, strings.Join(names, ", "))
}

func (m Mode) String() string      { return name(modeNames, m) }
func (c Class) String() string     { return name(classNames, c) }
func (m CPUMode) String() string   { return name(cpuModeNames, m) }
func (a Actuator) String() string  { return name(actuatorNames, a) }
func (s RunState) String() string  { return name(stateNames, s) }
func (h Health) String() string    { return name(healthNames, h) }
func (q Quality) String() string   { return name(qualityNames, q) }
func (s Symptom) String() string   { return name(symptomNames, s) }
func (r Resource) String() string  { return name(resourceNames, r) }
func (v Verb) String() string      { return name(verbNames, v) }
func (a Actor) String() string     { return name(actorNames, a) }
func (r Result) String() string    { return name(resultNames, r) }
func (k EventKind) String() string { return name(eventNames, k) }

// ParseMode reads "off", "observe", "recommend" or "auto".
func ParseMode(s string) (Mode, error) { return parse[Mode]("mode", modeNames, s) }

// ParseClass reads the name of a class.
func ParseClass(s string) (Class, error) { return parse[Class]("class", classNames, s) }

// ParseCPUMode reads "quota" or "weight".
func ParseCPUMode(s string) (CPUMode, error) { return parse[CPUMode]("cpu mode", cpuModeNames, s) }

// ParseActuator reads "engine" or "kernel".
func ParseActuator(s string) (Actuator, error) {
	return parse[Actuator]("actuator", actuatorNames, s)
}

// ParseRunState reads the Engine's name of a state; an unknown one is StateUnknown.
func ParseRunState(s string) RunState {
	v, _ := parse[RunState]("state", stateNames, s)
	return v
}

// ParseHealth reads the Engine's name of a health; an unknown one is HealthNone.
func ParseHealth(s string) Health {
	v, _ := parse[Health]("health", healthNames, s)
	return v
}

// Classes lists all classes.
func Classes() []Class {
	return []Class{ClassServing, ClassLatency, ClassBatch, ClassDatabase, ClassJVM, ClassCache}
}

// Enumerations are names in JSON, so that a file written by one version is read by
// the next whatever the order of the constants.

func (r Resource) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
func (v Verb) MarshalText() ([]byte, error)     { return []byte(v.String()), nil }
func (a Actor) MarshalText() ([]byte, error)    { return []byte(a.String()), nil }
func (r Result) MarshalText() ([]byte, error)   { return []byte(r.String()), nil }

func (r *Resource) UnmarshalText(b []byte) (err error) {
	*r, err = parse[Resource]("resource", resourceNames, string(b))
	return err
}

func (v *Verb) UnmarshalText(b []byte) (err error) {
	*v, err = parse[Verb]("verb", verbNames, string(b))
	return err
}

func (a *Actor) UnmarshalText(b []byte) (err error) {
	*a, err = parse[Actor]("actor", actorNames, string(b))
	return err
}

func (r *Result) UnmarshalText(b []byte) (err error) {
	*r, err = parse[Result]("result", resultNames, string(b))
	return err
}
