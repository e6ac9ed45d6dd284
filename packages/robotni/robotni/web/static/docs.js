// The API's description, drawn by swagger-ui; a token given on the page is used here too.

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // else it asks a server elsewhere
  requestInterceptor(request) {
    const token = sessionStorage.getItem("robotni-token");
    if (token !== null) request.headers.Authorization = `Bearer ${token}`;
    return request;
  },
});
