"""A Django site without a page of its own."""

urlpatterns: list[object] = []
