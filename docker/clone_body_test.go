package docker

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/effiscale/effiscale/knowledge"
)

const cloneID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// inspectOf is an inspect with parts of its three objects.
func inspectOf(config, host, networks, mounts string) []byte {
	return []byte(`{"Id":"` + cloneID + `","Name":"/web","Image":"sha256:1","Config":{"Hostname":"0123456789ab","Labels":{}` +
		config + `},"HostConfig":{"NetworkMode":"default"` + host + `},"NetworkSettings":{"Networks":{` + networks +
		`}},"Mounts":[` + mounts + `]}`)
}

func cloned(t *testing.T, inspect []byte, spec knowledge.CloneSpec) (map[string]any, []attachment) {
	t.Helper()
	b, more, err := cloneBody(inspect, spec, "host1")
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out, more
}

func TestCloneBody(t *testing.T) {
	hex := strings.Repeat("ab", 32)
	out, more := cloned(t, inspectOf(
		`,"Entrypoint":null,"NewerField":{"a":1},"MacAddress":""`,
		`,"NewerLimit":7,"Links":["/db:/web/database"],"Binds":["`+hex+`:/data:rw","/etc:/etc:ro","/usr:/x:ro"],`+
			`"Mounts":[{"Type":"volume","Source":"`+hex+`","Target":"/cache"},{"Type":"bind","Source":"/lib","Target":"/x",`+
			`"ReadOnly":true},{"Type":"volume","Source":"kept","Target":"/own"}]`,
		`"bridge":{"NetworkID":"1","IPAddress":"172.17.0.2","NewerKey":2},`+
			`"shop":{"NetworkID":"2","IPAddress":"172.18.0.2","Aliases":["web"],"NewerKey":3,"IPAMConfig":{}}`,
		`{"Type":"volume","Name":"`+hex+`","Destination":"/data","RW":true},`+
			`{"Type":"volume","Name":"`+hex+`","Destination":"/cache","RW":true},`+
			`{"Type":"volume","Name":"kept","Destination":"/own","RW":true}`),
		knowledge.CloneSpec{Slot: 2, Anonymous: []string{"kept"}, Labels: map[string]string{"effiscale.slot": "2"}})
	host := out["HostConfig"].(map[string]any)
	want := map[string]any{
		"Hostname": "", "Image": "sha256:1", "Labels": map[string]any{"effiscale.slot": "2"},
		"Entrypoint": []any{""}, "NewerField": map[string]any{"a": 1.0}, "HostConfig": host,
		"Volumes": map[string]any{"/data": map[string]any{}},
	}
	if d := cmp.Diff(want, out); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff([]any{"/etc:/etc:ro"}, host["Binds"]); d != "" { // /x is in Mounts, too
		t.Errorf("-want +got:\n%s", d)
	}
	for _, m := range host["Mounts"].([]any) {
		if m := m.(map[string]any); m["Type"] == "volume" && m["Source"] != nil {
			t.Errorf("an anonymous volume would be shared: %v", m)
		}
	}
	if d := cmp.Diff([]any{"db:database"}, host["Links"]); d != "" || host["NewerLimit"] != 7.0 {
		t.Errorf("%v", host)
	}
	if len(more) != 1 || more[0].name != "shop" || string(more[0].endpoint["NewerKey"]) != "3" ||
		more[0].endpoint["IPAddress"] != nil || string(more[0].endpoint["Aliases"]) != "null" {
		t.Errorf("%+v", more)
	}
}

func TestCloneHostname(t *testing.T) {
	for _, row := range []struct{ config, host, want string }{
		{``, ``, ""},
		{`,"Hostname":"db"`, ``, "db-4"},
		{`,"Hostname":"db.example.org"`, ``, "db-4.example.org"},
		{`,"Hostname":"host1"`, `,"NetworkMode":"host"`, ""},
		{`,"Hostname":"host2"`, `,"NetworkMode":"host"`, "host2-4"},
	} {
		out, _ := cloned(t, inspectOf(row.config, row.host, "", ""), knowledge.CloneSpec{Slot: 4})
		if out["Hostname"] != row.want {
			t.Errorf("%s %s: %v, want %q", row.config, row.host, out["Hostname"], row.want)
		}
	}
}

func TestCloneDisconnectedNetwork(t *testing.T) {
	out, more := cloned(t, inspectOf("", `,"NetworkMode":"old"`, `"a":{"NetworkID":"1"},"b":{"NetworkID":"2"}`, ""),
		knowledge.CloneSpec{})
	if mode := out["HostConfig"].(map[string]any)["NetworkMode"]; mode != "a" || len(more) != 1 || more[0].name != "b" {
		t.Errorf("%v, %v", mode, more)
	}
}

// TestCloneNamesEveryField: one answer names all that is in the way, and what allows it.
func TestCloneNamesEveryField(t *testing.T) {
	_, _, err := cloneBody(inspectOf(`,"MacAddress":"02:42:ac:11:00:02","Hostname":"`+strings.Repeat("a", 62)+`"`,
		`,"Privileged":true,"PidMode":"host","IpcMode":"container:`+cloneID+`","DeviceRequests":[{"Driver":"nvidia"}],`+
			`"VolumesFrom":["data"],"Links":["broken"]`,
		`"shop":{"IPAMConfig":{"IPv4Address":"172.18.0.9"}}`,
		`{"Type":"bind","Source":"/srv","Destination":"/srv","RW":true}`), knowledge.CloneSpec{Slot: 1}, "host1")
	e, ok := errors.AsType[*CloneError](err)
	if !ok {
		t.Fatal(err)
	}
	var got []string
	for _, f := range e.Fields {
		got = append(got, f.Field+" "+f.Allow)
	}
	want := []string{
		"HostConfig.Privileged privileged", "HostConfig.IpcMode ", "HostConfig.PidMode host-pid",
		"HostConfig.DeviceRequests gpu", "HostConfig.VolumesFrom shared-volumes", "Config.MacAddress mac-address",
		"Config.Hostname ", "HostConfig.Links ", "Mounts shared-volumes",
		"NetworkSettings.Networks.shop.IPAMConfig static-address",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// FuzzCloneBody: no answer of an Engine makes it panic or invent a body.
func FuzzCloneBody(f *testing.F) {
	f.Add(inspectOf("", "", "", ""))
	f.Add(inspectOf(`,"Volumes":null`, `,"Binds":["a:b:c","x",""],"Mounts":[{}]`, `"a":null`, `{"RW":true}`))
	f.Add([]byte(`{"Id":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, _, err := cloneBody(b, knowledge.CloneSpec{Slot: 1}, "host1")
		if err == nil && !json.Valid(body) {
			t.Errorf("%s", body)
		}
	})
}
