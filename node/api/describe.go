package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// addProblems describes what huma does not know: the shape of the errors.
func addProblems(doc *huma.OpenAPI) {
	detail := &huma.Schema{
		Type:       huma.TypeObject,
		Required:   []string{"detail"},
		Properties: map[string]*huma.Schema{"detail": {Type: huma.TypeString, Description: "What is wrong, and what to do"}},
	}
	schemas := doc.Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	schemas["Problem"] = detail
	problems := &huma.Response{
		Description: "400 malformed, 401 or 403 not allowed, 404 unknown container, 409 refused by a guard, " +
			"413 body too large, 422 a wrong or missing field, 429 too many requests, 503 or 504 the Engine or the owner " +
			"cannot be reached or did not answer in time",
		Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
	}
	for _, item := range doc.Paths {
		for _, op := range operations(item) {
			delete(op.Responses, "422")
			delete(op.Responses, "500")
			op.Responses["default"] = problems
		}
	}
}

// describe is the description of a server as JSON, with the page itself in it.
func describe(doc *huma.OpenAPI) ([]byte, error) {
	doc.Paths["/openapi.json"] = page("openapi", "This description", "application/json")
	return json.MarshalIndent(doc, "", "  ")
}

// operations are those that a path has, of the methods that there are.
func operations(item *huma.PathItem) []*huma.Operation {
	return slices.DeleteFunc([]*huma.Operation{item.Get, item.Post}, func(op *huma.Operation) bool { return op == nil })
}

func page(id, summary, kind string) *huma.PathItem {
	return &huma.PathItem{Get: &huma.Operation{
		OperationID: id,
		Summary:     summary,
		Responses:   map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{kind: {}}}},
	}}
}

// describeRoutes is the description of the socket: an entry for each row of the table.
func describeRoutes(version string, routes []Route) ([]byte, error) {
	types := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0", Info: &huma.Info{Title: "EffiScale commands", Version: version},
		Components: &huma.Components{Schemas: types}, Paths: map[string]*huma.PathItem{},
	}
	for _, r := range routes {
		op := &huma.Operation{OperationID: r.Name, Summary: r.Summary, Responses: map[string]*huma.Response{"200": {
			Description: "OK", Content: jsonOf(types.Schema(r.answer, true, r.Name+"Response"))}}}
		item := doc.Paths[r.Path]
		if item == nil {
			item = &huma.PathItem{}
			doc.Paths[r.Path] = item
		}
		if r.Verb == http.MethodGet {
			op.Parameters, item.Get = parameters(types, r.request), op
			continue
		}
		item.Post = op
		if r.request == reflect.TypeFor[None]() {
			continue
		}
		body := types.Schema(r.request, true, r.Name+"Request")
		op.RequestBody = &huma.RequestBody{Content: jsonOf(body)}
		types.SchemaFromRef(body.Ref).Required = nil // a missing field is its zero value
	}
	addProblems(doc)
	return describe(doc)
}

func jsonOf(s *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{"application/json": {Schema: s}}
}

// parameters are the fields of a request that are sent in the path and the query.
func parameters(types huma.Registry, request reflect.Type) (all []*huma.Param) {
	for f := range request.Fields() {
		name, inPath := fieldOf(f)
		p := &huma.Param{Name: name, In: "query", Schema: types.Schema(f.Type, true, name)}
		if f.Type == reflect.TypeFor[time.Duration]() {
			p.Schema, p.Description = &huma.Schema{Type: huma.TypeNumber}, "Seconds"
		}
		if inPath {
			p.In, p.Required = "path", true
		}
		all = append(all, p)
	}
	return all
}
