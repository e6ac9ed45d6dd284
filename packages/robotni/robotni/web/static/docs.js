// The API's description, shown by swagger-ui, with the token that was entered on the page.

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // by default it asks a server elsewhere
  requestInterceptor(request) {
    const token = sessionStorage.getItem("robotni-token");
    if (token !== null) request.headers.Authorization = `Bearer ${token}`;
    return request;
  },
});
