"""What runs inside a rank, and the values it hands over. It knows nothing of plans, stores or pages."""
