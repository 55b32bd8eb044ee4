package docker_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/effiscale/effiscale/docker"
	"github.com/effiscale/effiscale/docker/observer"
	"github.com/effiscale/effiscale/knowledge"
)

// option is a flag of docker create as the field of the Engine's request that it sets.
type option struct{ flag, field, value string }

// cloneable are flags that a clone keeps.
var cloneable = []option{
	{"--add-host", "HostConfig.ExtraHosts", `["db:10.1.2.3"]`},
	{"--attach", "AttachStdout", `true`},
	{"--blkio-weight", "HostConfig.BlkioWeight", `300`},
	{"--cap-add", "HostConfig.CapAdd", `["NET_ADMIN"]`},
	{"--cap-drop", "HostConfig.CapDrop", `["MKNOD"]`},
	{"--cgroup-parent", "HostConfig.CgroupParent", `"/effiscale-clone"`},
	{"--cgroupns", "HostConfig.CgroupnsMode", `"private"`},
	{"--cpu-period", "HostConfig.CpuPeriod", `50000`},
	{"--cpu-quota", "HostConfig.CpuQuota", `20000`},
	{"--cpu-shares", "HostConfig.CpuShares", `512`},
	{"--cpus", "HostConfig.NanoCpus", `500000000`},
	{"--cpuset-cpus", "HostConfig.CpusetCpus", `"0"`},
	{"--cpuset-mems", "HostConfig.CpusetMems", `"0"`},
	{"--device", "HostConfig.Devices", `[{"PathOnHost":"/dev/null","PathInContainer":"/dev/other","CgroupPermissions":"r"}]`},
	{"--device-cgroup-rule", "HostConfig.DeviceCgroupRules", `["c 1:3 r"]`},
	{"--device-read-bps", "HostConfig.BlkioDeviceReadBps", `[{"Path":"/dev/loop0","Rate":1048576}]`},
	{"--dns", "HostConfig.Dns", `["192.0.2.1"]`},
	{"--dns-option", "HostConfig.DnsOptions", `["ndots:2"]`},
	{"--dns-search", "HostConfig.DnsSearch", `["example.org"]`},
	{"--domainname", "Domainname", `"example.org"`},
	{"--entrypoint", "Entrypoint", `["/sleeper"]`},
	{`--entrypoint ""`, "Entrypoint", `[""]`},
	{"--env", "Env", `["A=b","EMPTY=","UTF=ä"]`},
	{"--expose", "ExposedPorts", `{"8080/tcp":{},"53/udp":{}}`},
	{"--group-add", "HostConfig.GroupAdd", `["1000"]`},
	{"--health-cmd", "Healthcheck", `{"Test":["CMD-SHELL","true"],"Interval":1000000000}`},
	{"--no-healthcheck", "Healthcheck", `{"Test":["NONE"]}`},
	{"--health-retries", "Healthcheck", `{"Test":["CMD","/sleeper"],"Retries":7,"StartPeriod":2000000000,"Timeout":3000000000}`},
	{"--init", "HostConfig.Init", `true`},
	{"--interactive", "OpenStdin", `true`},
	{"--ipc", "HostConfig.IpcMode", `"none"`},
	{"--ipc shareable", "HostConfig.IpcMode", `"shareable"`},
	{"--label", "Labels", `{"a":"b","com.docker.compose.project":"p"}`},
	{"--log-driver", "HostConfig.LogConfig", `{"Type":"json-file","Config":{"max-size":"1m"}}`},
	{"--memory", "HostConfig.Memory", `67108864`},
	{"--memory not aligned", "HostConfig.Memory", `100000000`},
	{"--memory-reservation", "HostConfig.MemoryReservation", `33554432`},
	{"--memory-swappiness", "HostConfig.MemorySwappiness", `10`},
	{"--mount type=tmpfs", "HostConfig.Mounts",
		`[{"Type":"tmpfs","Target":"/scratch","TmpfsOptions":{"SizeBytes":1048576,"Mode":448}}]`},
	{"--mount type=bind,readonly", "HostConfig.Mounts",
		`[{"Type":"bind","Source":"/usr","Target":"/ro","ReadOnly":true,"BindOptions":{"Propagation":"rslave"}}]`},
	{"--network none", "HostConfig.NetworkMode", `"none"`},
	{"--network host", "HostConfig.NetworkMode", `"host"`},
	{"--oom-kill-disable", "HostConfig.OomKillDisable", `true`},
	{"--oom-score-adj", "HostConfig.OomScoreAdj", `500`},
	{"--pids-limit", "HostConfig.PidsLimit", `100`},
	{"--publish", "HostConfig.PortBindings", `{"8080/tcp":[{"HostIp":"127.0.0.1","HostPort":"0"}]}`},
	{"--publish-all", "HostConfig.PublishAllPorts", `true`},
	{"--read-only", "HostConfig.ReadonlyRootfs", `true`},
	{"--restart", "HostConfig.RestartPolicy", `{"Name":"on-failure","MaximumRetryCount":3}`},
	{"--rm", "HostConfig.AutoRemove", `true`},
	{"--runtime", "HostConfig.Runtime", `"runc"`},
	{"--security-opt no-new-privileges", "HostConfig.SecurityOpt", `["no-new-privileges"]`},
	{"--security-opt seccomp", "HostConfig.SecurityOpt", `["seccomp=unconfined"]`},
	{"--security-opt systempaths=unconfined", "HostConfig.MaskedPaths", `[]`},
	{"--shm-size", "HostConfig.ShmSize", `33554432`},
	{"--stop-signal", "StopSignal", `"SIGINT"`},
	{"--stop-timeout", "StopTimeout", `7`},
	{"--sysctl", "HostConfig.Sysctls", `{"net.core.somaxconn":"1024"}`},
	{"--tmpfs", "HostConfig.Tmpfs", `{"/run":"size=1m"}`},
	{"--tty", "Tty", `true`},
	{"--ulimit", "HostConfig.Ulimits", `[{"Name":"nofile","Soft":1024,"Hard":2048}]`},
	{"--user", "User", `"1000:1000"`},
	{"--uts", "HostConfig.UTSMode", `"host"`},
	{"--volume anonymous", "Volumes", `{"/data":{}}`},
	{"--volume ro", "HostConfig.Binds", `["/usr:/ro:ro"]`},
	{"--volume named ro", "HostConfig.Binds", `["effiscale-clone:/named:ro"]`},
	{"--workdir", "WorkingDir", `"/w"`},
}

// TestCloneIsEqual clones containers with each flag of docker create and with random sets
// of them, and compares the Engine's inspects.
func TestCloneIsEqual(t *testing.T) {
	r, e := openReal(t), local(t)
	t.Cleanup(func() { _ = e.Call("DELETE", "/volumes/effiscale-clone?force=1", nil, nil) })
	tried := map[string]bool{}
	for _, o := range cloneable {
		tried[strings.Fields(o.flag)[0]] = true
		t.Run(o.flag, func(t *testing.T) {
			if !cloneEqual(t, r, e, []option{o}) {
				t.Errorf("the Engine refuses %s=%s", o.field, o.value)
			}
		})
	}
	if len(tried) < 55 {
		t.Errorf("%d flags of docker create are tried", len(tried))
	}
	const sets = 15
	source := rand.New(rand.NewPCG(1, uint64(os.Getpid())))
	made := 0
	for i := range sets {
		set := slices.Clone(cloneable)
		source.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		set = set[:6+source.IntN(12)]
		t.Run(fmt.Sprint("set ", i), func(t *testing.T) {
			t.Logf("%+v", set)
			if cloneEqual(t, r, e, set) {
				made++
			}
		})
	}
	if made < sets/3 {
		t.Errorf("the Engine took %d of %d sets", made, sets)
	}
}

// cloneEqual reports whether the Engine took the options, and fails the test when the clone
// differs.
func cloneEqual(t *testing.T, r *real, e *observer.Engine, set []option) bool {
	t.Helper()
	template, err := createWith(t, r, e, set)
	if err != nil {
		t.Log(err)
		return false
	}
	clone, err := r.Clone(t.Context(), template, knowledge.CloneSpec{
		Name: fmt.Sprintf("effiscale-clone-%d-replica", os.Getpid()), Slot: 2,
		Labels: map[string]string{"effiscale.slot": "2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Remove(string(clone)) }()
	if d := gocmp.Diff(inspected(t, e, template), inspected(t, e, clone)); d != "" {
		t.Errorf("-template +clone:\n%s", d)
	}
	return true
}

func local(t *testing.T) *observer.Engine {
	e := observer.Local()
	t.Cleanup(e.Close)
	return e
}

// createWith creates a container with the options.
func createWith(t *testing.T, r *real, e *observer.Engine, set []option) (knowledge.ContainerID, error) {
	t.Helper()
	body := map[string]any{"Image": r.image, "Cmd": []string{"/sleeper", "1"}, "HostConfig": map[string]any{}}
	for _, o := range set {
		part, key := body, o.field
		if rest, ok := strings.CutPrefix(key, "HostConfig."); ok {
			part, key = body["HostConfig"].(map[string]any), rest
		}
		part[key] = json.RawMessage(o.value)
	}
	var made struct {
		ID knowledge.ContainerID `json:"Id"`
	}
	name := fmt.Sprintf("effiscale-clone-%d", os.Getpid())
	if err := e.Call("POST", "/containers/create?name="+name, body, &made); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := e.Remove(string(made.ID)); err != nil {
			t.Error(err)
		}
	})
	return made.ID, nil
}

// inspected is an inspect without what must differ.
func inspected(t *testing.T, e *observer.Engine, id knowledge.ContainerID) map[string]any {
	t.Helper()
	var all map[string]any
	if err := e.Call("GET", "/containers/"+string(id)+"/json", nil, &all); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(key string, _ any) bool {
		switch key {
		case "Id", "Created", "State", "Name", "GraphDriver", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath":
			return true
		}
		return false
	})
	config, host := all["Config"].(map[string]any), all["HostConfig"].(map[string]any)
	if name := config["Hostname"].(string); strings.HasPrefix(string(id), name) {
		delete(config, "Hostname")
	}
	delete(config, "Image") // a tag and an id
	delete(config["Labels"].(map[string]any), "effiscale.slot")
	for _, key := range []string{"PortBindings", "PublishAllPorts", "RestartPolicy", "AutoRemove"} {
		delete(host, key)
	}
	mounts := all["Mounts"].([]any) // in no order
	slices.SortFunc(mounts, func(a, b any) int {
		return cmp.Compare(fmt.Sprint(a.(map[string]any)["Destination"]), fmt.Sprint(b.(map[string]any)["Destination"]))
	})
	for _, m := range mounts {
		if m := m.(map[string]any); knowledge.FullID(knowledge.ContainerID(fmt.Sprint(m["Name"]))) { // anonymous
			delete(m, "Name")
			delete(m, "Source")
		}
	}
	return all
}

// TestCloneRefuses lists what two containers cannot share.
func TestCloneRefuses(t *testing.T) {
	r, e := openReal(t), local(t)
	for _, row := range []struct {
		option
		allow, want string
	}{
		{option{"--privileged", "HostConfig.Privileged", "true"}, "privileged", "HostConfig.Privileged"},
		{option{"--pid host", "HostConfig.PidMode", `"host"`}, "host-pid", "pid namespace of the host"},
		{option{"--ipc host", "HostConfig.IpcMode", `"host"`}, "host-ipc", "ipc namespace of the host"},
		{option{"--mac-address", "MacAddress", `"02:42:ac:11:00:99"`}, "mac-address", "Config.MacAddress"},
		{option{"--volume", "HostConfig.Binds", `["/tmp:/x"]`}, "shared-volumes", "bind /tmp at /x"},
		{option{"--volume named", "HostConfig.Binds", `["effiscale-clone:/x"]`}, "shared-volumes", "volume effiscale-clone at /x"},
	} {
		t.Run(row.flag, func(t *testing.T) {
			template, err := createWith(t, r, e, []option{row.option})
			if err != nil {
				t.Fatal(err)
			}
			spec := knowledge.CloneSpec{Name: fmt.Sprintf("effiscale-clone-%d-replica", os.Getpid()), Slot: 2}
			_, err = r.Clone(t.Context(), template, spec)
			if refused, ok := errors.AsType[*docker.CloneError](err); !ok || len(refused.Fields) != 1 ||
				!strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "effiscale.allow="+row.allow) {
				t.Fatalf("%v", err)
			}
			spec.Allow = []string{row.allow}
			id, err := r.Clone(t.Context(), template, spec)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Remove(string(id)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloneNetworks: a clone joins the template's networks, without the aliases and addresses
// that can exist once, and starts.
func TestCloneNetworks(t *testing.T) {
	r, e := openReal(t), local(t)
	prefix := fmt.Sprintf("effiscale-clone-%d-", os.Getpid())
	for i, name := range []string{"a", "b"} {
		body := map[string]any{"Name": prefix + name, "IPAM": map[string]any{
			"Config": []map[string]any{{"Subnet": fmt.Sprintf("198.18.%d.0/24", 4+i)}}}}
		if err := e.Call("POST", "/networks/create", body, &struct{}{}); err != nil {
			t.Fatal(err)
		}
		r.cleanup("network", func(ctx context.Context) error { return r.RemoveNetwork(ctx, prefix+name) })
	}
	template, err := createWith(t, r, e, []option{
		{"--network", "HostConfig.NetworkMode", strconv.Quote(prefix + "a")},
		{"--hostname", "Hostname", `"db.example.org"`},
		{"--network-alias", "NetworkingConfig", `{"EndpointsConfig":{` + strconv.Quote(prefix+"a") + `:{"Aliases":["web"]}}}`},
	})
	if err != nil {
		t.Fatal(err)
	}
	connect := map[string]any{"Container": template, "EndpointConfig": map[string]any{
		"Aliases": []string{"other"}, "IPAMConfig": map[string]any{"IPv4Address": "198.18.5.77"}}}
	if err := e.Call("POST", "/networks/"+prefix+"b/connect", connect, nil); err != nil && !errors.Is(err, io.EOF) &&
		!strings.Contains(err.Error(), "unexpected end of JSON") {
		t.Fatal(err)
	}
	if err := r.Start(t.Context(), template); err != nil {
		t.Fatal(err)
	}
	spec := knowledge.CloneSpec{Name: prefix + "replica", Slot: 3}
	if _, err := r.Clone(t.Context(), template, spec); err == nil || !strings.Contains(err.Error(), "static-address") {
		t.Errorf("a fixed address: %v", err)
	}
	spec.Allow = []string{"static-address"}
	id, err := r.Clone(t.Context(), template, spec)
	if err != nil {
		t.Fatal(err)
	}
	r.cleanup("replica", func(ctx context.Context) error { return r.Remove(ctx, id) })
	if err := r.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	var is struct {
		Config          struct{ Hostname string }
		NetworkSettings struct {
			Networks map[string]struct {
				IPAddress string
				Aliases   []string
			}
		}
	}
	if err := e.Call("GET", "/containers/"+string(id)+"/json", nil, &is); err != nil {
		t.Fatal(err)
	}
	if len(is.NetworkSettings.Networks) != 2 || is.Config.Hostname != "db-3.example.org" {
		t.Errorf("%+v", is)
	}
	for name, n := range is.NetworkSettings.Networks {
		if n.IPAddress == "" || n.IPAddress == "198.18.5.77" || slices.Contains(n.Aliases, "web") ||
			slices.Contains(n.Aliases, "other") {
			t.Errorf("%s: %+v", name, n)
		}
	}
	_, err = r.Clone(t.Context(), template, spec)
	wantKind(t, err, docker.KindConflict)
	wantKind(t, func() error {
		_, err := r.Clone(t.Context(), knowledge.ContainerID(strings.Repeat("0", 64)), spec)
		return err
	}(), docker.KindGone)
}
