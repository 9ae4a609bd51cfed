package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/caddy-openplatform/openplatform/internal/catalog"
	"github.com/caddy-openplatform/openplatform/internal/limit"
	"github.com/caddy-openplatform/openplatform/internal/platform"
)

// doc puts lines under a head of three lines, so that the first is line 4.
func doc(lines ...string) string {
	return "openapi: 3.1.0\ninfo: {title: t, version: \"1.0\"}\npaths:\n" + strings.Join(lines, "\n") + "\n"
}

// op is a path with one operation whose extensions begin in line 6.
func op(lines ...string) string {
	all := []string{"  /v1/orders:", "    get:"}
	for _, l := range lines {
		all = append(all, "      "+l)
	}
	return doc(all...)
}

func parse(t *testing.T, text string) *platform.CatalogFile {
	t.Helper()
	file, err := catalog.Parse("test.yaml", []byte(text))
	require.NoError(t, err)
	return file
}

func one(t *testing.T, text string) platform.API {
	t.Helper()
	file := parse(t, text)
	require.Len(t, file.APIs, 1)
	return file.APIs[0]
}

func mistakes(t *testing.T, text string) platform.CatalogErrors {
	t.Helper()
	_, err := catalog.Parse("bad.yaml", []byte(text))
	var all platform.CatalogErrors
	require.ErrorAs(t, err, &all)
	require.NotEmpty(t, all)
	return all
}

func TestMistakes(t *testing.T) {
	const at = "/paths/~1v1~1orders/get"
	const name = "x-open-name: order.list"
	cases := []struct {
		name, text string
		line       int
		pointer    string
		says       string
	}{
		{"no name", op("summary: x"), 5, at, "the API has no name; want x-open-name"},
		{"operationId is no name", op("operationId: listOrders"), 5, at, `operationId "listOrders" is not`},
		{"bad name", op("x-open-name: listOrders"), 6, at + "/x-open-name", `"listOrders" is no API name; want words`},
		{"name of one word", op("x-open-name: orders"), 6, at + "/x-open-name", "no API name"},
		{"empty name", op(`x-open-name: ""`), 6, at + "/x-open-name", "no API name"},
		{"misspelt extension", op(name, "x-open-pakage: trade"), 7, at + "/x-open-pakage", `no extension "x-open-pakage"; want x-open-package`},
		{"underscored extension", op(name, "x-open_package: trade"), 7, at + "/x-open_package", "want x-open-package"},
		{"extension in capitals", op(name, "X-Open-Package: trade"), 7, at + "/X-Open-Package", "want x-open-package"},
		{"misplaced extension", doc("  /v1/orders:", "    x-open-name: order.list", "    get: {x-open-name: order.list}"), 5, "/paths/~1v1~1orders/x-open-name", "want x-open-name at an operation"},
		{"root extension at an operation", op(name, "x-open-packages: []"), 7, at + "/x-open-packages", "want x-open-packages at the root"},
		{"extension in info", "openapi: 3.1.0\ninfo: {title: t, version: '1.0', x-open-upstream: a:1}\npaths: {}\n", 2, "/info/x-open-upstream", "want x-open-upstream at an operation"},
		{"upstream with a scheme", op(name, "x-open-upstream: http://10.0.0.1:8080/shop"), 7, at + "/x-open-upstream", "has a scheme or a path; want 10.0.0.1:8080"},
		{"upstream with https", op(name, "x-open-upstream: https://shop.example"), 7, at + "/x-open-upstream", "want shop.example:443"},
		{"upstream without a port", op(name, "x-open-upstream: 10.0.0.1"), 7, at + "/x-open-upstream", "no port; want host:port"},
		{"upstream with a path", op(name, "x-open-upstream: a:80/x"), 7, at + "/x-open-upstream", "no valid port"},
		{"upstream without a host", op(name, "x-open-upstream: ':80'"), 7, at + "/x-open-upstream", "no valid host"},
		{"socket without a path", op(name, "x-open-upstream: unix/run"), 7, at + "/x-open-upstream", "names no socket; want unix//run"},
		{"bad rate", op(name, "x-open-rate: 100"), 7, at + "/x-open-rate", `"100" is no rate; want requests/period`},
		{"rate of no time", op(name, "x-open-rate: 100/0s"), 7, at + "/x-open-rate", "cannot be kept"},
		{"rate of an unknown unit", op(name, "x-open-rate: 100/day"), 7, at + "/x-open-rate", "no valid period"},
		{"bad quota", op(name, "x-open-quota: 100"), 7, at + "/x-open-quota", "want {day: 10000, month: 200000}"},
		{"quota of a week", op(name, "x-open-quota: {week: 1}"), 7, at + "/x-open-quota/week", `a quota has no "week"`},
		{"negative quota", op(name, "x-open-quota: {day: -1}"), 7, at + "/x-open-quota/day", "want a positive number"},
		{"bad token flag", op(name, "x-open-user-token: 'yes'"), 7, at + "/x-open-user-token", "want true or false"},
		{"bad status", op(name, "x-open-status: live"), 7, at + "/x-open-status", "want draft, online, deprecated or offline"},
		{"status against deprecated", op(name, "x-open-status: online", "deprecated: true"), 7, at + "/x-open-status", "deprecated and online at once"},
		{"bad sunset", op(name, "deprecated: true", "x-open-sunset: soon"), 8, at + "/x-open-sunset", `"soon" is no date; want`},
		{"sunset alone", op(name, "x-open-sunset: 2027-06-30"), 7, at + "/x-open-sunset", "want deprecated: true"},
		{"bad version", op(name, "x-open-version: v2"), 7, at + "/x-open-version", `"v2" is no API version`},
		{"bad package", op(name, "x-open-package: Trade"), 7, at + "/x-open-package", "no package name"},
		{"merchant under paths", op(name, "x-open-provider: merchant"), 7, at + "/x-open-provider", "or the callout under webhooks"},
		{"a title that is a list", op(name, "summary: [a]"), 7, at + "/summary", "want a string"},
		{"bad response status", op(name, "responses: {ok: {description: x}}"), 7, at + "/responses/ok", `"ok" is no status`},
		{"bad media type", op(name, "responses: {200: {content: {json: {example: 1}}}}"), 7, at + "/responses/200/content/json", "no media type"},

		{"unknown method", doc("  /v1/a:", "    fetch: {x-open-name: a.b}"), 5, "/paths/~1v1~1a/fetch", `no "fetch"; want get`},
		{"operation is a list", doc("  /v1/a:", "    get: []"), 5, "/paths/~1v1~1a/get", "it is a list; want an object"},
		{"no slash", doc("  v1/a: {}"), 4, "/paths/v1~1a", "want /v1/a"},
		{"trailing slash", doc("  /v1/a/: {}"), 4, "/paths/~1v1~1a~1", "empty segment"},
		{"root path", doc("  /: {}"), 4, "/paths/~1", "empty segment"},
		{"dot segment", doc("  /v1/../a: {}"), 4, "/paths/~1v1~1..~1a", `a segment ".."`},
		{"half a segment", doc("  /v1/a-{id}: {}"), 4, "/paths/~1v1~1a-{id}", "mixes text and a parameter; want"},
		{"bad parameter", doc("  '/v1/{order id}': {}"), 4, "/paths/~1v1~1{order id}", "no parameter name"},
		{"rest of a path", doc("  /v1/{rest...}: {}"), 4, "/paths/~1v1~1{rest...}", "no parameter name"},
		{"parameter twice", doc("  /v1/{a}/{a}: {}"), 4, "/paths/~1v1~1{a}~1{a}", "{a} twice"},
		{"escape in a path", doc("  /v1/a%2Fb: {}"), 4, "/paths/~1v1~1a%2Fb", "no literal segment may have"},
		{"undeclared parameter", doc("  /v1/{no}/{id}:", "    get: {x-open-name: a.b, parameters: [{name: no, in: path, required: true}]}"), 5, "/paths/~1v1~1{no}~1{id}/get", "{id} is not declared; want a parameter {name: id"},
		{"parameter of no path", op(name, "parameters: [{name: id, in: path, required: true}]"), 5, at, "the path has no {id}"},
		{"optional path parameter", doc("  /v1/{id}:", "    get:", "      x-open-name: a.b", "      parameters: [{name: id, in: path}]"), 7, "/paths/~1v1~1{id}/get/parameters/0", "want required: true"},
		{"parameter without a name", op(name, "parameters: [{in: query}]"), 7, at + "/parameters/0", "no name or no in"},
		{"parameters as an object", op(name, "parameters: {a: 1}"), 7, at + "/parameters", "want a list of parameters"},

		{"same name and version", doc("  /v1/a:", "    get: {x-open-name: a.b}", "    put: {x-open-name: a.b}"), 6, "/paths/~1v1~1a/put", "a.b@1.0 is at line 5 (/paths/~1v1~1a/get) already"},
		{
			"same version in other words", doc("  /v1/a:", "    get: {x-open-name: a.b, x-open-version: '2'}", "    put: {x-open-name: a.b, x-open-version: '2.0'}"),
			6, "/paths/~1v1~1a/put", "a.b@2 is at line 5 (/paths/~1v1~1a/get) already, and 2.0 is the same version; want another x-open-name or x-open-version",
		},
		{
			"equivalent paths", doc("  /v1/{x}:", "    parameters: [{name: x, in: path, required: true}]", "    get: {x-open-name: a.b}",
				"  /v1/{y}:", "    parameters: [{name: y, in: path, required: true}]", "    get: {x-open-name: a.c}"),
			9, "/paths/~1v1~1{y}/get", "GET /v1/{y} matches the same calls as GET /v1/{x} at line 6 (/paths/~1v1~1{x}/get)",
		},
		{
			"crossing paths", doc("  /a/{x}:", "    parameters: [{name: x, in: path, required: true}]", "    get: {x-open-name: a.b}",
				"  /{y}/b:", "    parameters: [{name: y, in: path, required: true}]", "    get: {x-open-name: a.c}"),
			9, "/paths/~1{y}~1b/get", "matches the same calls as GET /a/{x}",
		},

		{"bad packages", "openapi: 3.1.0\nx-open-packages: trade\ninfo: {version: '1.0'}\npaths: {}\n", 2, "/x-open-packages", "want a list of {name, title, description}"},
		{"package without a name", "openapi: 3.1.0\nx-open-packages:\n- title: x\ninfo: {version: '1.0'}\npaths: {}\n", 3, "/x-open-packages/0", "the package has no name"},
		{"package with a scope", "openapi: 3.1.0\nx-open-packages:\n- name: a\n  scope: x\ninfo: {version: '1.0'}\npaths: {}\n", 4, "/x-open-packages/0/scope", `a package has no "scope"`},
		{"package twice", "openapi: 3.1.0\nx-open-packages:\n- name: a\n- name: a\ninfo: {version: '1.0'}\npaths: {}\n", 4, "/x-open-packages/1", "in line 3 already"},

		{"remote reference", op(name, "responses: {200: {$ref: 'https://x.example/r.yaml'}}"), 7, at + "/responses/200/$ref", "leaves the document; other files and addresses are never read"},
		{"file reference", op(name, "responses: {200: {$ref: '/etc/passwd'}}"), 7, at + "/responses/200/$ref", "leaves the document"},
		{"dangling reference", op(name, "responses: {200: {$ref: '#/components/responses/X'}}"), 7, at + "/responses/200/$ref", "leads nowhere"},
		{"circle of references", doc("  /v1/a: {$ref: '#/components/pathItems/A'}", "components:", "  pathItems:", "    A: {$ref: '#/components/pathItems/B'}", "    B: {$ref: '#/components/pathItems/A'}"), 4, "/paths/~1v1~1a", "lead in a circle"},
		{"reference with company", doc("  /v1/a:", "    $ref: '#/components/pathItems/A'", "    get: {x-open-name: a.b}", "components: {pathItems: {A: {}}}"), 4, "/paths/~1v1~1a", "want the $ref alone"},

		{"upstream of a callout", doc("  {}", "webhooks:", "  paid:", "    post: {x-open-name: a.b, x-open-upstream: 'a:1'}"), 7, "/webhooks/paid/post/x-open-upstream", "no extension"},
		{"platform callout", doc("  {}", "webhooks:", "  paid:", "    post: {x-open-name: a.b, x-open-provider: platform}"), 7, "/webhooks/paid/post/x-open-provider", "or the operation under paths"},

		{"swagger", "swagger: \"2.0\"\npaths: {}\n", 1, "/swagger", "Swagger 2.0 is too old; want the document converted to OpenAPI 3.1"},
		{"unknown version", "openapi: 4.0.0\npaths: {}\n", 1, "/openapi", "want 3.0.x or 3.1.x"},
		{"no version", "info: {}\n", 1, "", "want openapi: 3.1.0"},
		{"no info", "openapi: 3.1.0\npaths: {}\n", 1, "", "there is no info"},
		{"no info version", "openapi: 3.1.0\ninfo: {title: x}\npaths: {}\n", 2, "/info", "there is no version"},
		{"no paths", "openapi: 3.1.0\ninfo: {version: '1.0'}\n", 1, "", "there are no paths"},
		{"a list", "- openapi\n", 1, "", "the document is a list"},
		{"two documents", "a: 1\n---\nb: 2\n", 0, "", "multiple"},
		{"nothing", "", 0, "", "no documents"},
		{"broken YAML", "openapi: 3.1.0\n  info: x\n", 2, "", "the YAML cannot be read"},
		{"duplicate key", op(name, name), 7, at + "/x-open-name", "in line 6 already"},
		{"merge key", op(name, "<<: {a: 1}"), 7, at + "/<<", "merge keys are not supported"},
		{"alias", op("summary: &s x", name, "description: *s"), 8, at + "/description", "aliases like *s are not supported"},
		{"own tag", op(name, "summary: !secret x"), 7, at + "/summary", `the YAML tag "!secret" is not known`},
		{"infinity", op(name, "example: .inf"), 7, at + "/example", `JSON has no number ".inf"`},
		{"key that is a list", op(name, "? [a]", ": 1"), 7, at + "/", "the key is a list"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			all := mistakes(t, c.text)
			found := all[0]
			require.Equal(t, c.line, found.Line, all.Error())
			require.Equal(t, c.pointer, found.Pointer, all.Error())
			require.Contains(t, found.Error(), c.says)
			require.Equal(t, "bad.yaml", found.Source)
			require.NotEmpty(t, found.Want, "an error says what to write instead")
		})
	}
}

func TestErrorNamesItsPlace(t *testing.T) {
	_, err := catalog.Parse("mall.openapi.yaml", []byte(op("x-open-name: a.b", "x-open-package: 12%")))
	require.EqualError(t, err, `mall.openapi.yaml:7:23: /paths/~1v1~1orders/get/x-open-package: "12%" is no package name; `+
		"want lower-case letters and digits with single . _ or - between them, as trade")
	var first *platform.CatalogError
	require.ErrorAs(t, err, &first)
	require.Equal(t, 23, first.Column)
}

func TestAllMistakesAtOnce(t *testing.T) {
	all := mistakes(t, op("x-open-rate: x", "x-open-quota: x", "x-open-status: x"))
	require.Len(t, all, 4)
	require.Equal(t, []int{5, 6, 7, 8}, []int{all[0].Line, all[1].Line, all[2].Line, all[3].Line})

	for says, text := range map[string]string{
		"the references lead in a circle": op("x-open-name: a.b", "responses: {200: {$ref: '#/components/responses/A'}}") +
			"components: {responses: {A: {$ref: '#/components/responses/B'}, B: {$ref: '#/components/responses/A'}}}\n",
		"no media type": op("x-open-name: a.b", "responses: {200: {content: {json: {schema: {type: string}}}}}"),
	} {
		all = mistakes(t, text)
		require.Len(t, all, 1, all.Error())
		require.Contains(t, all.Error(), says)
	}

	var lines []string
	for i := range 300 {
		lines = append(lines, "  /v1/a"+strconv.Itoa(i)+":", "    get: {}")
	}
	all = mistakes(t, doc(lines...))
	require.Len(t, all, 50, "no more than can be read")
	require.Equal(t, 5, all[0].Line)
}

func TestSettings(t *testing.T) {
	file := parse(t, `
openapi: 3.1.0
info: {title: t, version: 1.10}
x-open-package: trade
x-open-upstream: shop.internal:8181
x-open-rate: 1000/s
x-open-quota: {day: 100}
paths:
  /v1/plain:
    get: {operationId: shop.plain, summary: 普通}
  /v1/item:
    x-open-package: item
    x-open-upstream: unix//run/item.sock
    x-open-status: draft
    get: {x-open-name: shop.item}
    put:
      x-open-name: shop.own
      x-open-version: 2.0
      x-open-package: own
      x-open-user-token: true
      x-open-status: offline
      x-open-upstream: "[::1]:80"
      x-open-rate: 20/1m30s burst 50
      x-open-quota: {day: 5, month: 50}
      x-open-provider: platform
    post: {x-open-name: shop.old, deprecated: true, x-open-sunset: 2027-06-30}
    delete: {x-open-name: shop.older, x-open-status: deprecated, x-open-sunset: "2027-06-30T08:00:00+08:00"}
`)
	apis := map[string]platform.API{}
	for _, a := range file.APIs {
		a.Spec = nil
		apis[a.Name] = a
	}
	root := platform.Limits{Rate: limit.Rate{Requests: 1000, Period: time.Second}, Quota: limit.Quota{Day: 100}}
	sunset := time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)
	item := platform.API{
		Version: "1.10", Path: "/v1/item", Provider: "platform", Package: "item",
		Upstream: "unix//run/item.sock", Limits: root, Source: "test.yaml",
	}
	with := func(change func(*platform.API)) platform.API {
		a := item
		change(&a)
		return a
	}
	require.Equal(t, map[string]platform.API{
		"shop.plain": {
			Name: "shop.plain", Version: "1.10", Title: "普通", Method: "GET", Path: "/v1/plain", Provider: "platform",
			Package: "trade", Upstream: "shop.internal:8181", Limits: root, Source: "test.yaml",
		},
		"shop.item": with(func(a *platform.API) { a.Name, a.Method, a.Status = "shop.item", "GET", "draft" }),
		"shop.own": {
			Name: "shop.own", Version: "2.0", Method: "PUT", Path: "/v1/item", Provider: "platform", Package: "own",
			UserToken: true, Status: "offline", Upstream: "[::1]:80", Source: "test.yaml",
			Limits: platform.Limits{Rate: limit.Rate{Requests: 20, Period: 90 * time.Second, Burst: 50}, Quota: limit.Quota{Day: 5, Month: 50}},
		},
		"shop.old": with(func(a *platform.API) { a.Name, a.Method, a.Status, a.Sunset = "shop.old", "POST", "deprecated", sunset }),
		"shop.older": with(func(a *platform.API) {
			a.Name, a.Method, a.Status, a.Sunset = "shop.older", "DELETE", "deprecated", sunset
		}),
	}, apis)
}

func TestBasicIsTheDefaultPackage(t *testing.T) {
	a := one(t, op("x-open-name: a.b"))
	require.Equal(t, platform.BasicPackage, a.Package)
	require.Empty(t, a.Status)
}

func TestWebhooks(t *testing.T) {
	file := parse(t, doc("  {}", `x-open-upstream: "a:1"`, "x-open-rate: 1/s", "webhooks:",
		"  checked:", "    x-open-provider: merchant", "    get: {x-open-name: callout.check, x-open-package: trade}",
		"  created:", "    post: {x-open-topic: order.created, summary: 1}",
		"  changed:", "    x-open-topic: order.changed", "    post: {}"))
	require.Len(t, file.APIs, 1, "a topic is no API")
	require.Len(t, file.Topics, 2)
	a := file.APIs[0]
	a.Spec = nil
	require.Equal(t, platform.API{
		Name: "callout.check", Version: "1.0", Method: "GET", Provider: "merchant", Package: "trade", Source: "test.yaml",
	}, a)
}

func TestExamples(t *testing.T) {
	const ref = "content: {application/json: {schema: {$ref: '#/components/schemas/S'}}}"
	cases := []struct {
		name, responses, schema string
		want                    platform.Example
	}{
		{"written", "200: {content: {application/json: {example: {b: 1.50, a: 12345678901234567890, c: 1e300, d: ~, e: 2026-01-02}}}}", "", ok(`{"b":1.50,"a":12345678901234567890,"c":1e300,"d":null,"e":"2026-01-02"}`)},
		{"other numbers", "200: {content: {application/json: {example: [0x1F, 0o17, 1_000, .5, +1, 1.]}}}", "", ok(`[31,15,1000,0.5,1,1]`)},
		{"first of several", "200: {content: {application/json: {examples: {x: {value: <a&b>}, y: {value: 2}}}}}", "", ok(`"<a&b>"`)},
		{"referenced", "200: {content: {application/json: {examples: {x: {$ref: '#/components/schemas/S'}}}}}", "{value: [1]}", ok(`[1]`)},
		{"first success", "404: {content: {application/json: {example: 1}}}, 202: {content: {application/json: {example: 2}}}, 200: {content: {application/json: {example: 3}}}", "", platform.Example{Status: 202, ContentType: "application/json", Body: []byte("2")}},
		{"written before made", "200: {" + ref + "}, 201: {content: {application/json: {example: 2}}}", "{type: string}", platform.Example{Status: 201, ContentType: "application/json", Body: []byte("2")}},
		{"range", "2XX: {content: {'*/*': {example: 2}}}", "", ok("2")},
		{"text", "200: {content: {text/csv: {example: 'a,b'}}}", "", platform.Example{Status: 200, ContentType: "text/csv", Body: []byte("a,b")}},
		{"no content", "204: {description: x}", "", platform.Example{Status: 204}},
		{"no success", "default: {description: x}", "", platform.Example{}},
		{"scalars", "200: {" + ref + "}", "{type: object, properties: {s: {type: string}, d: {type: string, format: date}, i: {type: integer, minimum: 3}, n: {type: number}, b: {type: boolean}, e: {enum: [x, y]}, c: {const: 7}, f: {default: z}, x: {type: string, examples: [q]}, m: {type: [\"null\", integer]}}}", ok(`{"s":"string","d":"2026-01-02","i":3,"n":0,"b":true,"e":"x","c":7,"f":"z","x":"q","m":0}`)},
		{"list", "200: {" + ref + "}", "{type: array, items: {type: object, properties: {a: {type: boolean}}}}", ok(`[{"a":true}]`)},
		{"all of", "200: {" + ref + "}", "{allOf: [{properties: {a: {example: 1}}}, {properties: {a: {example: 9}, b: {example: 2}}}]}", ok(`{"a":1,"b":2}`)},
		{"one of", "200: {" + ref + "}", "{oneOf: [{type: integer}, {type: string}]}", ok(`0`)},
		{"secrets of requests", "200: {" + ref + "}", "{properties: {p: {type: string, writeOnly: true}, a: {type: integer}}}", ok(`{"a":0}`)},
		{"circle", "200: {" + ref + "}", "{type: object, properties: {name: {example: x}, children: {type: array, items: {$ref: '#/components/schemas/S'}}, parent: {$ref: '#/components/schemas/S'}}}", ok(`{"name":"x","children":[]}`)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			schema := c.schema
			if schema == "" {
				schema = "{}"
			}
			a := one(t, op("x-open-name: a.b", "responses: {"+c.responses+"}")+"components: {schemas: {S: "+schema+"}}\n")
			require.Equal(t, c.want, a.Example, string(a.Example.Body))
		})
	}
}

func ok(body string) platform.Example {
	return platform.Example{Status: 200, ContentType: "application/json", Body: []byte(body)}
}

func TestSpecIsTheOperation(t *testing.T) {
	a := one(t, op("x-open-name: a.b", "summary: 列表", "x-price: 1.10", "responses: {200: {description: ok}}"))
	// Compared as bytes: the price keeps its text.
	want := []byte(`{"x-open-name":"a.b","summary":"列表","x-price":1.10,"responses":{"200":{"description":"ok"}}}`)
	require.Equal(t, want, []byte(a.Spec))
}

func TestReferencesAndData(t *testing.T) {
	file := parse(t, `
openapi: 3.1.0
info: {version: "1.0"}
paths:
  /v1/{id}: {$ref: "#/components/pathItems/One"}
components:
  pathItems:
    One:
      parameters: [{$ref: "#/components/parameters/a~1b"}]
      get:
        x-open-name: a.b
        responses:
          200:
            headers: {x-open-request-id: {schema: {type: string}}}
            content:
              application/json:
                example: {$ref: "https://only.data.example", x-open-nothing: 1}
                schema: {properties: {example: {$ref: "#/components/schemas/S"}, $ref: {type: string}}}
  parameters:
    a/b: {name: id, in: path, required: true}
  schemas:
    S: {type: string}
`)
	require.Len(t, file.APIs, 1)
	require.JSONEq(t, `{"$ref":"https://only.data.example","x-open-nothing":1}`, string(file.APIs[0].Example.Body))
}

func TestOpenAPI30(t *testing.T) {
	file, err := catalog.Load("testdata/shop-3.0.json")
	require.NoError(t, err)
	require.Equal(t, "shop-3.0.json", file.Source)
	require.Equal(t, "d4ae463cc92842c66747273fa6bfea8e1e3f9a29b6ddce4ef5e7b885c99c4e58", file.Digest)
	require.Len(t, file.APIs, 1)
	a := file.APIs[0]
	require.Equal(t, "shop.item.get@1.0", a.ID())
	require.Equal(t, "/shop/items/{item_id}", a.Path, "servers add no prefix")
	require.JSONEq(t, `{"name":"保温杯 😀","price":4900,"note":"\\ud83d is no pair"}`, string(a.Example.Body))
}

func TestLoad(t *testing.T) {
	_, err := catalog.Load(filepath.Join(t.TempDir(), "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "reading catalog")

	path := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(path, []byte("a: 1\n"), 0o600))
	_, err = catalog.Load(path)
	require.ErrorContains(t, err, "bad.yaml:1:1: there is no openapi version")
}

// The gate matches calls with http.ServeMux, so the catalog must refuse exactly
// the pairs of paths that a ServeMux refuses.
func TestConflictsAreThoseOfServeMux(t *testing.T) {
	segments := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "{}"}), 1, 3)
	method := rapid.SampledFrom([]string{"get", "head", "post"})
	rapid.Check(t, func(t *rapid.T) {
		mux := http.NewServeMux()
		paths := map[string]any{}
		refused := false
		for i := range 2 {
			path, parameters := "", []any{}
			for j, s := range segments.Draw(t, "segments") {
				if s == "{}" {
					name := fmt.Sprintf("p%d%d", i, j)
					parameters = append(parameters, map[string]any{"name": name, "in": "path", "required": true})
					s = "{" + name + "}"
				}
				path += "/" + s
			}
			if paths[path] != nil {
				path += "/c" // a path is a key, so it cannot be there twice
			}
			m := method.Draw(t, "method")
			refused = refused || !register(mux, strings.ToUpper(m)+" "+path)
			paths[path] = map[string]any{m: map[string]any{"x-open-name": fmt.Sprintf("a.b%d", i), "parameters": parameters}}
		}
		text, err := json.Marshal(map[string]any{"openapi": "3.1.0", "info": map[string]any{"version": "1.0"}, "paths": paths})
		require.NoError(t, err)
		_, err = catalog.Parse("x.json", text)
		require.Equal(t, refused, err != nil, "%s: %v", text, err)
		if refused {
			require.ErrorContains(t, err, "matches the same calls as")
		}
	})
}

func register(mux *http.ServeMux, pattern string) (taken bool) {
	defer func() { taken = recover() == nil }()
	mux.HandleFunc(pattern, func(http.ResponseWriter, *http.Request) {})
	return true
}

func FuzzParse(f *testing.F) {
	mall, err := os.ReadFile(filepath.Clean(mallPath))
	require.NoError(f, err)
	f.Add(mall)
	shop, err := os.ReadFile("testdata/shop-3.0.json")
	require.NoError(f, err)
	f.Add(shop)
	f.Add([]byte(op("x-open-name: a.b", "deprecated: true", "x-open-sunset: 2027-01-01", "x-open-rate: 1/s burst 2", "x-open-quota: {day: 1}",
		"responses: {200: {content: {application/json: {schema: {allOf: [{$ref: '#/components/schemas/S'}]}}}}}") +
		"components: {schemas: {S: {properties: {s: {$ref: '#/components/schemas/S'}, n: {type: [integer, 'null']}}}}}\n"))
	f.Add([]byte(webhook("x-open-user-token: false", "deprecated: true",
		"requestBody: {content: {application/json: {schema: {allOf: [{$ref: '#/components/schemas/S'}, {not: {$ref: '#/components/schemas/S/properties/n'}}]}}}}") +
		"components: {schemas: {S: {$defs: {}, properties: {s: {$ref: '#/components/schemas/S'}, n: {type: [integer, 'null']}}}}}\n"))
	f.Add([]byte(strings.Replace(message("{type: string, nullable: true, minimum: 1, exclusiveMinimum: true, enum: [a]}", ""), "3.1.0", "3.0.0", 1)))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte(`{"openapi":"3.1.0","a":"\ud83d\ude00\ud83d"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := catalog.Parse("f.yaml", data)
		if err != nil {
			var all platform.CatalogErrors
			if !errors.As(err, &all) || len(all) == 0 || len(all) > 50 || file != nil {
				t.Fatalf("no list of mistakes: %v", err)
			}
			return
		}
		ids := map[string]bool{}
		for _, a := range file.APIs {
			if ids[a.ID()] || !json.Valid(a.Spec) {
				t.Fatalf("%s: %s", a.ID(), a.Spec)
			}
			ids[a.ID()] = true
			if strings.HasSuffix(a.Example.ContentType, "json") && !json.Valid(a.Example.Body) {
				t.Fatalf("%s: %s", a.ID(), a.Example.Body)
			}
		}
		names := map[string]bool{}
		for _, topic := range file.Topics {
			if names[topic.Name] || !json.Valid(topic.Spec) || topic.Example != nil && !json.Valid(topic.Example) {
				t.Fatalf("%s: %s, %s", topic.Name, topic.Spec, topic.Example)
			}
			names[topic.Name] = true
			if topic.Schema != nil {
				validator(t, topic.Schema)
			}
		}
	})
}
